"""What happens is shown without reloading, and nothing moves under a pointer."""

from __future__ import annotations

import re

from playwright.sync_api import Page, Route, expect

from tests.dashboard.browsing import Tabs, go, log_in
from tests.dashboard.sites import Site


def test_what_happens_is_shown_as_it_happens(site: Site, page: Page) -> None:
    log_in(page, site)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    expect(page.get_by_text("No job has failed.")).to_be_visible()
    page.evaluate("window.untouched = true")
    site.job("desk:refuse", {"message": "fresh"})
    expect(page.get_by_role("table", name="Newest failures")).to_contain_text("fresh")
    running = site.held()
    expect(page.get_by_role("table", name="Running now")).to_contain_text("desk:hold")
    site.run(site.app.scheduler.cancel(running, running=True))
    expect(page.get_by_text("Nothing runs right now.")).to_be_visible()
    assert page.evaluate("window.untouched")


def test_rows_of_jobs_change_in_place_and_new_ones_are_counted(site: Site, page: Page) -> None:
    waits = site.job("desk:hold", after=3600)
    log_in(page, site, "#/jobs")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    row = page.locator("tbody tr")
    expect(row).to_contain_text("pending")
    site.run(site.app.scheduler.promote(waits))
    expect(row).to_contain_text("running")
    expect(row).to_have_count(1)
    for _ in range(3):
        site.ended("desk:note")
    show = page.get_by_role("button", name=re.compile("3 new: show"))
    expect(show).to_be_visible()
    expect(row).to_have_count(1)
    show.click()
    expect(row).to_have_count(4)
    expect(show).to_have_count(0)


def test_a_list_holds_still_while_the_pointer_is_in_it(site: Site, page: Page) -> None:
    site.ended("desk:refuse", {"message": "the first"})
    log_in(page, site)
    failures = page.get_by_role("table", name="Newest failures")
    failures.locator("tbody tr").first.hover()
    site.ended("desk:refuse", {"message": "the second"})
    show = page.get_by_role("button", name="1 new: show")
    expect(show).to_be_visible()
    expect(failures.locator("tbody tr")).to_have_count(1)
    expect(failures).to_contain_text("the first")
    page.get_by_role("heading", level=1).hover()
    expect(failures.locator("tbody tr")).to_have_count(2)
    expect(show).to_have_count(0)
    failures.get_by_role("link").first.focus()  # the keyboard's pointer
    site.ended("desk:refuse", {"message": "the third"})
    show.click()
    expect(failures.locator("tbody tr")).to_have_count(3)


def test_what_has_the_focus_keeps_it(site: Site, page: Page) -> None:
    log_in(page, site)
    link = page.locator(".tile").filter(has_text="Failed").get_by_role("link")
    link.focus()
    site.ended("desk:refuse", {"message": "x"})
    expect(page.locator(".tile").filter(has_text="Failed").locator("b")).to_have_text("1")
    expect(link).to_be_focused()


def test_a_broken_stream_is_said_and_polled_over(site: Site, tabs: Tabs) -> None:
    tabs.expected.append("net::ERR_FAILED")
    page = tabs.open()
    page.clock.install()  # which runs as ever, but can be put forward
    cut = {"is": True}

    def events(route: Route) -> None:
        if cut["is"]:
            route.abort()
        else:
            route.continue_()

    page.route("**/admin/events", events)
    log_in(page, site)
    expect(page.get_by_text("Not live", exact=True)).to_be_visible()
    site.ended("desk:refuse", {"message": "seen by asking"})
    page.clock.run_for(5_000)
    expect(page.get_by_role("table", name="Newest failures")).to_contain_text("seen by asking")
    expect(page.get_by_text("Not live", exact=True)).to_be_visible()
    cut["is"] = False
    page.clock.run_for(40_000)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_a_server_that_is_gone_is_said(site: Site, tabs: Tabs) -> None:
    tabs.expected.append("net::ERR_FAILED")
    page = tabs.open()
    log_in(page, site)
    page.route("**/admin/**", lambda route: route.abort())
    site.ended("desk:note")
    expect(page.locator("#notice")).to_contain_text("The server can't be reached.")
    page.unroute("**/admin/**")
    site.ended("desk:note")
    expect(page.locator("#notice")).to_be_empty()


def test_a_cron_that_runs_gets_a_cell(site: Site, page: Page) -> None:
    log_in(page, site, "#/crons?name=tidy")
    expect(page.get_by_text("No runs are kept.")).to_be_visible()
    site.run(site.app.crons.run_now("tidy"))
    expect(page.locator(".strip .cell")).to_have_count(1)
    go(page, "#/crons")
    expect(page.locator(".strip .cell")).to_have_count(1)
