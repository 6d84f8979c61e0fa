"""Each page shows what the administration's JSON says."""

from __future__ import annotations

import json
import re
from datetime import timedelta

from playwright.sync_api import Page, expect

from runtime import Cron, CronJob
from tests.dashboard.browsing import Tabs, go, log_in
from tests.dashboard.sites import OPERATE, Site

BEARER = {"Authorization": f"Bearer {OPERATE}"}


def rows(page: Page, label: str) -> list[str]:
    table = page.get_by_role("table", name=label, exact=True)
    return [row.inner_text() for row in table.locator("tbody tr").all()]


def test_the_overview_says_what_waits_what_runs_and_what_failed(site: Site, page: Page) -> None:
    for at in range(3):
        site.ended("desk:refuse", {"message": f"gone {at}"})
        site.ended("desk:note")
    site.job("desk:note", after=600)
    for minutes in range(40):
        site.job("desk:note", after=1800 + minutes)
    site.job("desk:note", after=8 * 3600)
    site.held()
    site.run(site.app.scheduler.pause("lights out"))
    site.job("desk:note")
    log_in(page, site)
    tile = page.locator(".tile")
    expect(tile.filter(has_text="Failed").locator("b")).to_have_text("3")
    expect(tile.filter(has_text="Pending").locator("b")).to_have_text("43")
    expect(tile.filter(has_text="Due now").locator("b")).to_have_text("1")
    expect(tile.filter(has_text="Crons").locator("b")).to_have_text("2")
    expect(page.get_by_text("Everything is paused: no job starts. lights out")).to_be_visible()
    assert len(rows(page, "Newest failures")) == 3
    assert "gone 2" in rows(page, "Newest failures")[0]
    expect(page.get_by_role("table", name="Running now")).to_contain_text("desk:hold")
    expect(page.get_by_text("42 due in the next hour.")).to_be_visible()
    chart = page.get_by_role("group", name="Next hour: what is due")
    marks = chart.get_by_role("link")
    expect(marks).to_have_count(3)  # one that is overdue, one in ten minutes, and 40 as one
    expect(chart.get_by_text("40", exact=True)).to_be_visible()
    page.get_by_role("button", name="Next day").click()
    expect(page.get_by_text("43 due in the next day.")).to_be_visible()
    expect(page.get_by_text(re.compile("60 minutes.*3 success.*3 failed"))).to_be_visible()


def test_minutes_of_the_chart_can_be_read_with_arrows(site: Site, page: Page) -> None:
    site.ended("desk:note")
    log_in(page, site)
    chart = page.get_by_role("img", name=re.compile("Ended jobs by minute"))
    chart.focus()
    chart.press("ArrowLeft")
    expect(page.locator(".readout strong")).to_have_text(re.compile(r"\d\d:\d\d$"))
    chart.press("Escape")
    expect(page.locator(".readout strong")).to_have_text("60 minutes")


def test_the_list_of_jobs_is_filtered_by_what_the_address_says(site: Site, page: Page) -> None:
    site.ended("desk:refuse", {"message": "needle in it"})
    site.ended("desk:note", {"text": "a needle, too"})
    keyed = site.job("desk:note", after=3600, key="the key")
    log_in(page, site, "#/jobs")
    expect(page.locator("tbody tr")).to_have_count(3)
    expect(page.get_by_text("3 jobs")).to_be_visible()
    page.get_by_label("State").select_option("failed")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert page.url.endswith("#/jobs?state=failed")
    page.get_by_label("State").select_option("")
    page.get_by_label("Text").fill("needle")
    page.get_by_label("Text").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_label("Function").fill("desk:note")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.get_by_label("Function")).to_have_value("")
    go(page, "#/jobs?key=the+key")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.get_by_label("Key")).to_have_value("the key")
    expect(page.locator("tbody tr")).to_have_attribute("data-id", keyed)
    assert page.locator("datalist option").count() == 3
    go(page, "#/jobs?state=canceled")
    expect(page.get_by_text("No job matches.")).to_be_visible()
    go(page, "#/jobs?state=nonsense")
    expect(page.get_by_role("alert")).to_contain_text("INVALID_QUERY")


def test_a_job_is_shown_whole(site: Site, page: Page) -> None:
    job = site.ended("desk:refuse", {"message": "no <b>tea</b>"})
    log_in(page, site, f"#/jobs/{job}")
    expect(page.get_by_role("heading", level=1)).to_have_text("desk:refuse")
    expect(page.locator("#error ~ *, [aria-labelledby=error]").first).to_contain_text("no <b>tea</b>")
    expect(page.locator(".code")).to_have_text("OUT_OF_STOCK")
    assert json.loads(page.locator("#args-json").inner_text()) == {"message": "no <b>tea</b>"}
    assert json.loads(page.get_by_label("Error data").inner_text()) == {"item": "no <b>tea</b>"}
    for name in ("Created", "Started", "Ended", "Kind", "Attempt"):
        expect(page.locator(".facts dt").get_by_text(name, exact=True)).to_be_visible()
    go(page, "#/jobs/0123")
    expect(page.get_by_text("There is no such job")).to_be_visible()


def test_numbers_keep_their_digits(site: Site, page: Page) -> None:
    """A browser's number has 53 bits, the scheduler's 64."""
    job = site.ended("desk:note", {"number": 9007199254740993, "text": "1.0"})
    log_in(page, site, f"#/jobs/{job}")
    expect(page.locator("#args-json")).to_contain_text('"number": 9007199254740993')
    expect(page.locator("#result-json")).to_contain_text('"number": 9007199254740993')


def test_a_cron_says_when_it_ticks_by_which_rule_and_how_it_went(site: Site, page: Page) -> None:
    run = site.run(site.app.crons.run_now("digest/paris"))
    site.run(site.app.scheduler.wait(run))
    site.run(site.app.crons.pause("tidy", note="ask Ada first"))
    log_in(page, site, "#/crons")
    row = page.locator("tbody tr").filter(has_text="digest/paris").first
    expect(row).to_contain_text("0 8 29 2 * Europe/Paris")
    expect(row).to_contain_text("missed: latest, overlap: skip")
    expect(row.locator(".cell.s-success")).to_have_count(1)
    row.locator(".cell").focus()
    expect(page.get_by_role("tooltip")).to_contain_text("run by hand")
    expect(page.get_by_role("row", name=re.compile("tidy"))).to_contain_text("ask Ada first")
    row.get_by_role("link", name="digest/paris").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("digest/paris")
    expect(page.get_by_text("What came in overnight")).to_be_visible()
    ticks = page.get_by_role("table", name="Next ticks")
    expect(ticks.locator("tbody tr")).to_have_count(6)
    expect(ticks.get_by_role("columnheader", name="Europe/Paris")).to_be_visible()
    first = site.run(site.app.crons.next_ticks("digest/paris", 1))[0]
    expect(ticks.locator("tbody tr").first).to_contain_text(f"{first:%Y-%m-%d %H:%M:%S}")
    expect(ticks.locator("tbody tr").first).to_contain_text("08:00:00")
    expect(page.get_by_role("table", name="Runs")).to_contain_text("by hand")
    go(page, "#/crons?name=nobody")
    expect(page.get_by_text("There is no such cron")).to_be_visible()


def test_a_staged_version_says_what_it_would_change(site: Site, page: Page) -> None:
    jobs = [CronJob("digest/paris", Cron("0 9 * * *", tz="Europe/Paris"), "desk:note", None),
            CronJob("brand new", Cron("0 9 * * *"), "desk:note", None)]  # fmt: skip
    site.run(site.app.crons.stage(jobs))
    log_in(page, site, "#/crons")
    row = page.get_by_role("table", name="Versions").locator("tbody tr").first
    expect(row).to_contain_text("staged")
    expect(row).to_contain_text("added: brand new")
    expect(row).to_contain_text("deleted: tidy")


def test_pools_and_health_say_how_the_app_is(site: Site, page: Page) -> None:
    site.held()
    site.held()
    site.job("desk:hold")
    log_in(page, site, "#/pools")
    row = page.get_by_role("table", name="Pools").locator("tbody tr")
    expect(row).to_contain_text("hall")
    expect(row).to_contain_text("2 of 2 full")
    go(page, "#/health")
    expect(page.get_by_text("✓ yes")).to_be_visible()
    expect(page.get_by_text("✓ The file is sound.")).to_be_visible()
    for name in ("Database", "Write-ahead log", "Commit, 99 %", "Event loop's lag", "Version"):
        expect(page.locator("dt").get_by_text(name, exact=True)).to_be_visible()
    expect(page.get_by_role("table", name="Who did what")).to_contain_text("log in")


def test_times_are_relative_with_the_clock_beside_and_utc_on_hover(site: Site, tabs: Tabs) -> None:
    page = tabs.open(timezone_id="Asia/Tokyo")
    job = site.job("desk:note", after=7200)
    due = site.run(site.app.scheduler.get(job)).fire_at
    log_in(page, site, "#/jobs")
    time = page.locator("td.when time")
    expect(time).to_have_attribute("title", re.compile(f"{due:%Y-%m-%d %H:%M:%S}.* UTC"))
    expect(time).to_contain_text("in 1 h")
    expect(time).to_contain_text(f"{due + timedelta(hours=9):%H:%M:%S}")


def test_a_phone_is_given_fewer_jobs_and_a_cron_leads_to_its_own(site: Site, tabs: Tabs) -> None:
    run = site.run(site.app.crons.run_now("tidy"))
    for at in range(30):
        site.job("desk:note", after=60 + at)
    page = tabs.open(viewport={"width": 360, "height": 740})
    log_in(page, site, "#/jobs")
    expect(page.locator("tbody tr")).to_have_count(25)
    page.get_by_role("link", name="Older »").click()
    expect(page.locator("tbody tr")).to_have_count(6)
    go(page, "#/crons?name=tidy")
    page.get_by_role("link", name="Its jobs").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_have_attribute("data-id", run)
    go(page, "#/crons?name=tidy")
    page.get_by_role("link", name="desk:note").click()
    expect(page.locator("tbody tr")).to_have_count(25)
    expect(page.get_by_label("Function")).to_have_value("desk:note")


def test_failed_jobs_are_one_click_from_health(site: Site, page: Page) -> None:
    failed = site.ended("desk:refuse", {"message": "no"})
    site.ended("desk:note")
    log_in(page, site, "#/health")
    page.locator(".findings li").filter(has_text="1 jobs failed").get_by_role("link").click()
    expect(page.locator("tbody tr")).to_have_attribute("data-id", failed)
    go(page, "#/health")
    page.locator(".facts > div").filter(has_text="Jobs failed").get_by_role("link", name="1").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_have_attribute("data-id", failed)
