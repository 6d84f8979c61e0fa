"""Text that means something to browsers, in every field that a stranger can fill, on every page: it is shown as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.dashboard.browsing import Tabs, go, log_in
from tests.dashboard.sites import Site, serving
from tests.http import hostile

POLICY = """() => {
  if (window.broken) return;
  window.broken = [];
  document.addEventListener("securitypolicyviolation", (event) => window.broken.push(`${event.violatedDirective} ${event.blockedURI}`));
}"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(lambda: hostile.make(str(tmp_path_factory.mktemp("hostile") / "hostile.db"))) as site:
        site.run(hostile.fill(site.app))
        yield site


@pytest.fixture
def page(page: Page) -> Iterator[Page]:
    page.add_init_script(f"({POLICY})()")
    yield page
    assert page.evaluate("[window.pwned, window.broken]") == [None, []]
    assert (
        page.evaluate(
            "document.querySelectorAll('main script, main style, main iframe, main img, main form[action], main base').length"
        )
        == 0
    )


def rows(page: Page) -> list[str]:
    return page.evaluate("() => [...document.querySelectorAll('main tbody tr')].map((row) => row.textContent)")


def test_every_page_of_jobs_shows_text_as_text(filled: Site, page: Page) -> None:
    failed = {job.id: job for job in filled.run(_latest(filled, None, "failed"))}
    log_in(page, filled, "#/jobs?state=failed")
    shown: dict[str, str] = {}
    while True:
        page.wait_for_selector("tbody tr")
        found = page.evaluate(
            "() => [...document.querySelectorAll('main tbody tr')].map((row) => [row.dataset.id, row.textContent])"
        )
        shown |= dict(found)
        older = page.get_by_role("link", name="Older »")
        if not older.count():
            break
        older.click()
        page.wait_for_function("first => document.querySelector('tbody tr')?.dataset.id !== first", arg=found[0][0])
    assert shown.keys() == failed.keys()
    for job_id, text in shown.items():
        assert (failed[job_id].error or "")[:100] in text
    assert sum(markup in text for text in shown.values() for markup in hostile.MARKUP) >= len(hostile.MARKUP)


def test_a_job_shows_arguments_results_and_errors_as_they_are(filled: Site, page: Page) -> None:
    log_in(page, filled)
    jobs = filled.run(_latest(filled, "hostile:keep", "success"))
    seen = set()
    for job in jobs[::12] + jobs[-4:]:
        go(page, f"#/jobs/{job.id}")
        page.wait_for_function("id => document.querySelector('.crumbs')?.textContent.includes(id)", arg=job.id)
        assert json.loads(page.locator("#args-json").text_content() or "") == job.args
        assert json.loads(page.locator("#result-json").text_content() or "") == job.result
        seen.add(job.args["text"])
    assert len(seen) > 8
    for job in filled.run(_latest(filled, "hostile:refuse", "failed"))[::14]:
        go(page, f"#/jobs/{job.id}")
        page.wait_for_function("id => document.querySelector('.crumbs')?.textContent.includes(id)", arg=job.id)
        assert job.error in (page.locator(".error .pre").text_content() or "")
        assert json.loads(page.get_by_label("Error data").text_content() or "") == job.error_data


async def _latest(site: Site, path: str | None, state: Any) -> list[Any]:
    return [job async for job in site.app.scheduler.list(fn=path, state=state)]


def test_crons_show_names_notes_and_descriptions_as_they_are(filled: Site, page: Page) -> None:
    log_in(page, filled, "#/crons")
    shown: list[str] = []
    for _ in range(10):
        page.wait_for_selector("tbody tr")
        shown += rows(page)
        more = page.get_by_role("link", name="More »")
        if not more.count():
            break
        first = rows(page)[0]
        more.click()
        page.wait_for_function("first => document.querySelector('tbody tr')?.textContent !== first", arg=first)
    everything = "\n".join(shown)
    for name in hostile.CRON_NAMES:
        assert name[:119] in everything, name
    for name in hostile.CRON_NAMES[::9]:
        go(page, f"#/crons?name={quote(name, safe='')}")
        expect(page.get_by_role("heading", level=1)).to_have_text(
            name if len(name) <= 200 else name[:200] + "…", use_inner_text=False
        )
        page.wait_for_selector("#args-json")
        assert json.loads(page.locator("#args-json").text_content() or "") == {"text": name}
        expect(page.locator("main .notice.warn")).to_be_visible()


@pytest.mark.parametrize("where", ["#/", "#/pools", "#/health", "#/crons"])
def test_the_other_pages_stand_it(where: str, filled: Site, page: Page) -> None:
    log_in(page, filled, where)
    page.wait_for_selector("main .card, main table")
    expect(page.locator("main").get_by_text("…", exact=True)).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_phone_stands_it_too(filled: Site, tabs: Tabs) -> None:
    page = tabs.open(viewport={"width": 360, "height": 740})
    log_in(page, filled)
    wide = {}
    jobs = filled.run(_latest(filled, "hostile:fail", "failed"))
    for where in ("#/", "#/jobs?state=failed", "#/crons", *(f"#/jobs/{job.id}" for job in jobs[:4])):
        go(page, where)
        page.wait_for_selector("main tbody tr, main .facts")
        wide[where] = page.evaluate("document.documentElement.scrollWidth")
    assert {where: width for where, width in wide.items() if width > 360} == {}


def test_an_address_made_by_a_stranger_does_nothing(filled: Site, page: Page) -> None:
    log_in(page, filled)
    for text in hostile.MARKUP[::3]:
        for where in (
            f"#/jobs?text={quote(text)}&key={quote(text)}",
            f"#/jobs/{quote(text, safe='')}",
            f"#/crons?name={quote(text)}",
            f"#/{text}",
            "#/jobs/%E0%A4%A",
        ):
            go(page, where)
        page.wait_for_selector("main h1")
    go(page, "#/jobs?text=%3Cscript%3E")
    expect(page.get_by_label("Text")).to_have_value("<script>")


def test_what_is_not_seen_is_marked_and_stays_what_it_is(filled: Site, page: Page) -> None:
    log_in(page, filled)
    jobs = [
        job for job in filled.run(_latest(filled, "hostile:fail", "failed")) if job.error and "\u202egpj" in job.error
    ]
    go(page, f"#/jobs/{jobs[0].id}")
    mark = page.locator(".error .unseen")
    expect(mark).to_have_attribute("data-code", "202E")
    assert "\u202egpj.exe" in (page.locator(".error .pre").text_content() or "")
    assert "\\u202e" in (page.locator("#args-json").text_content() or "")
