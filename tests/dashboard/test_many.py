"""A hundred thousand jobs: a page of them is a page, not all of them.

The test takes 1,050; `python -m tests.dashboard.test_many` takes 100,000 and says how long the first page takes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Page, expect

from actor_scheduler.call import Call
from tests.dashboard.browsing import MISSING, Tabs, browser, chromium, go, log_in
from tests.dashboard.sites import Site, make_app, serving

PAGE: Final = 100
DAY: Final = 86_400
# From asking for the place to the frame in which its rows are painted.
PAINTED = """where => new Promise((resolve) => {
  const began = performance.now();
  const seen = new MutationObserver(() => {
    if (!document.querySelector("main tbody tr, main .step")) return;  // a search may find nothing on its first page
    seen.disconnect();
    requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
  });
  seen.observe(document.getElementById("app"), {childList: true, subtree: true});
  location.hash = where;
})"""


def fill(site: Site, jobs: int) -> None:
    """Schedule this many jobs, due over ten days from tomorrow on."""
    calls = (Call("desk:note", {"number": at}).after(DAY + at % (10 * DAY)) for at in range(jobs))
    site.run(_schedule(site, calls))


async def _schedule(site: Site, calls: Iterable[Call[Any]]) -> None:
    await site.app.scheduler.run_many(calls)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(lambda: make_app(tmp_path_factory.mktemp("many") / "many.db")) as filled:
        fill(filled, 1_050)
        yield filled


def test_pages_hold_each_job_once_and_none_is_too_long(site: Site, page: Page) -> None:
    log_in(page, site, "#/jobs")
    expect(page.get_by_text("1,050 jobs")).to_be_visible()
    seen: list[str] = []
    while True:
        page.wait_for_selector("tbody tr")
        ids = page.evaluate("() => [...document.querySelectorAll('main tbody tr')].map((row) => row.dataset.id)")
        assert len(ids) <= PAGE
        seen += ids
        older = page.get_by_role("link", name="Older »")
        if not older.count():
            break
        older.click()
        page.wait_for_function("first => document.querySelector('tbody tr')?.dataset.id !== first", arg=ids[0])
    assert len(seen) == len(set(seen)) == 1_050
    page.get_by_role("link", name="« Newest").click()
    page.wait_for_function("first => document.querySelector('tbody tr')?.dataset.id === first", arg=seen[0])
    page.go_back()
    page.wait_for_function("first => document.querySelector('tbody tr')?.dataset.id === first", arg=ids[0])


@pytest.mark.parametrize("where", ["#/", "#/crons"])
def test_the_other_pages_do_not_grow(where: str, site: Site, page: Page) -> None:
    log_in(page, site, where)
    page.wait_for_selector("main table")
    assert page.evaluate("document.querySelectorAll('*').length") < 1_500


def main(jobs: int = 100_000, turns: int = 9) -> None:
    if chromium() is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as folder, serving(lambda: make_app(Path(folder) / "many.db")) as site:
        fill(site, jobs)
        with browser() as started:
            tabs = Tabs(started)
            page = tabs.open()
            log_in(page, site, "#/pools")
            for where in (
                "#/jobs",
                "#/jobs?state=pending",
                "#/jobs?function=desk:note",
                "#/jobs?text=99999",
                "#/",
                "#/crons",
            ):
                took = []
                for _ in range(turns):
                    go(page, "#/pools")
                    page.wait_for_selector("h1:text('Pools')")
                    page.wait_for_function(
                        "() => !document.querySelector('main tbody tr') || document.querySelector('.gauge')"
                    )
                    page.evaluate("document.querySelector('main').replaceChildren()")
                    took.append(page.evaluate(PAINTED, where))
                print(
                    f"{jobs:,} jobs  {where:28} first page painted in {statistics.median(took):4.0f} ms (median of {turns}), {max(took):4.0f} ms at most"
                )
            tabs.close()
            print("problems:", tabs.problems)


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:]))
