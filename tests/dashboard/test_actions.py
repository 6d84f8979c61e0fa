"""Every button does what it says, and asks first where that can't be undone."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from runtime import Cron, CronJob
from tests.dashboard.browsing import Tabs, go, log_in
from tests.dashboard.sites import Site


def said(page: Page, text: str) -> None:
    line = page.locator(".saying").filter(has_text=text)
    expect(line).to_be_visible()
    line.get_by_role("button").click()


def confirm(page: Page, name: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()


def test_one_job_is_canceled_run_now_run_again_and_dropped(site: Site, page: Page) -> None:
    later = site.job("desk:note", after=3600)
    log_in(page, site, f"#/jobs/{later}")
    page.get_by_role("button", name="Cancel").click()
    confirm(page, "Not now")
    assert site.state(later) == "pending"
    page.get_by_role("button", name="Cancel").click()
    confirm(page, "Cancel this job")
    expect(page.locator("main .badge").first).to_contain_text("canceled")
    assert site.state(later) == "canceled"

    soon = site.job("desk:note", after=3600)
    go(page, f"#/jobs/{soon}")
    page.get_by_role("button", name="Run now").click()
    expect(page.locator("main .badge").first).to_contain_text("success")

    failed = site.ended("desk:refuse", {"message": "no"})
    go(page, f"#/jobs/{failed}")
    page.get_by_role("button", name="Run again").click()
    said(page, "It runs again.")
    site.run(site.app.scheduler.wait(failed))
    page.get_by_role("button", name="Drop").click()
    confirm(page, "Drop this job")
    expect(page.get_by_text("There is no such job")).to_be_visible()
    assert site.state(failed) is None

    running = site.held()
    go(page, f"#/jobs/{running}")
    page.get_by_role("button", name="Cancel").click()
    confirm(page, "Cancel this run")
    expect(page.locator("main .badge").first).to_contain_text("canceled")


def test_chosen_jobs_are_changed_and_no_others(site: Site, page: Page) -> None:
    jobs = [site.job("desk:note", after=3600 + at) for at in range(5)]
    log_in(page, site, "#/jobs")
    for job in jobs[1:3]:
        page.locator(f"tr[data-id='{job}'] input").check()
    expect(page.get_by_text("2 chosen")).to_be_visible()
    page.get_by_role("region", name="The chosen jobs").get_by_role("button", name="Cancel").click()
    confirm(page, "Cancel 2 jobs")
    said(page, "Cancel: 2 of 2 jobs changed.")
    assert [site.state(job) for job in jobs] == ["pending", "canceled", "canceled", "pending", "pending"]
    expect(page.get_by_role("region", name="The chosen jobs")).to_be_hidden()
    page.get_by_label("Choose all on this page").check()
    expect(page.get_by_text("5 chosen")).to_be_visible()
    page.get_by_role("button", name="None", exact=True).click()
    expect(page.locator("tbody input:checked")).to_have_count(0)


def test_all_that_match_are_changed_after_their_number_was_shown(site: Site, page: Page) -> None:
    jobs = [site.job("desk:note", after=3600, key=f"k{at}") for at in range(120)]
    other = site.job("desk:refuse", {"message": ""}, after=3600)
    log_in(page, site, "#/jobs?function=desk:note")
    page.get_by_text("Change all that match").click()
    page.get_by_role("button", name="Cancel all…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Cancel 120 jobs")
    expect(dialog).to_contain_text("function = desk:note")
    confirm(page, "Not now")
    assert site.state(jobs[0]) == "pending"
    page.get_by_role("button", name="Cancel all…").click()
    confirm(page, "Cancel 120 jobs")
    said(page, "Cancel: 120 jobs changed.")
    assert {site.state(job) for job in jobs} == {"canceled"}
    assert site.state(other) == "pending"
    page.get_by_role("button", name="Run all again…").click()
    said(page, "None of these jobs has failed: there is nothing to run again.")


def test_when_more_match_than_were_confirmed_the_new_number_is_said_and_confirmed_anew(site: Site, page: Page) -> None:
    failed = site.ended("desk:refuse", {"message": "no"})
    site.run(site.app.scheduler.pause())
    waits = site.job("desk:note", after=3600)
    log_in(page, site, "#/jobs")
    page.get_by_text("Change all that match").click()
    page.get_by_role("button", name="Cancel all…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading")).to_have_text("Cancel 1 job")
    site.run(site.app.scheduler.retry(failed))
    confirm(page, "Cancel 1 job")
    expect(dialog).to_contain_text("There are more by now: 2, not 1. Nothing was changed.")
    assert (site.state(failed), site.state(waits)) == ("pending", "pending")
    confirm(page, "Cancel 2 jobs")
    said(page, "Cancel: 2 jobs changed.")
    assert (site.state(failed), site.state(waits)) == ("canceled", "canceled")
    page.get_by_role("button", name="Drop all…").click()
    expect(dialog).to_contain_text("Runs of crons among them go from their cron's history, too.")
    confirm(page, "Not now")


def test_a_double_click_acts_once(site: Site, page: Page) -> None:
    """The click after the first finds a button that is busy, however long the answer takes."""
    failed = site.ended("desk:refuse", {"message": "no"})
    sent: list[Route] = []
    page.route("**/retry", lambda route: sent.append(route))
    page.route("**/cron/run", lambda route: sent.append(route))
    log_in(page, site, f"#/jobs/{failed}")
    again = page.get_by_role("button", name="Run again")
    again.dblclick()
    expect(again).to_be_disabled()
    expect(again).to_be_focused()
    again.press("Enter")
    assert len(sent) == 1
    sent.pop().continue_()
    said(page, "It runs again.")
    go(page, "#/crons?name=tidy")
    page.get_by_role("button", name="Run tidy now").dblclick()  # and a cron asks first
    expect(page.get_by_role("dialog")).to_have_count(1)
    assert sent == []
    confirm(page, "Run now")
    expect(page.get_by_role("button", name="Run tidy now")).to_be_disabled()
    page.get_by_role("button", name="Run tidy now").dblclick(force=True)
    assert len(sent) == 1
    sent.pop().continue_()
    said(page, "It runs now.")
    expect(page.locator(".strip .cell")).to_have_count(1)


def test_what_went_wrong_is_said_for_a_while_and_not_on_the_next_page(site: Site, tabs: Tabs) -> None:
    page = tabs.open()
    page.clock.install()
    job = site.job("desk:note", after=3600)
    page.route("**/promote", lambda route: route.fulfill(status=503, json={"error": {"code": "UNAVAILABLE"}}))
    log_in(page, site, f"#/jobs/{job}")
    line = page.locator(".saying.bad")
    run = page.get_by_role("button", name="Run now")
    run.click()
    expect(line).to_be_visible()
    page.clock.run_for(9_000)
    expect(line).to_be_visible()
    page.clock.run_for(2_000)
    expect(line).to_have_count(0)
    run.click()
    line.get_by_role("button").focus()
    page.clock.run_for(20_000)
    expect(line).to_be_visible()  # it is being read
    run.focus()
    page.clock.run_for(2_000)
    expect(line).to_have_count(0)
    run.click()
    expect(line).to_be_visible()
    go(page, "#/pools")
    expect(line).to_have_count(0)


def test_a_cron_is_run_paused_and_resumed(site: Site, page: Page) -> None:
    log_in(page, site, "#/crons")
    page.get_by_role("button", name="Run tidy now").click()
    confirm(page, "Not now")
    page.get_by_role("button", name="Run tidy now").click()
    confirm(page, "Run now")
    said(page, "It runs now.")
    row = page.get_by_role("row", name=re.compile("tidy"))
    expect(row.locator(".cell")).to_have_count(1)
    page.get_by_role("button", name="Pause tidy").click()
    page.get_by_label("Note (who and why)").fill("the disk is full")
    confirm(page, "Pause")
    expect(row).to_contain_text("the disk is full")
    cron = site.run(site.app.crons.get("tidy"))
    assert cron is not None
    assert (cron.paused, cron.note) == (True, "the disk is full")
    go(page, "#/crons?name=tidy")
    page.get_by_role("button", name="Resume tidy").click()
    expect(page.get_by_role("button", name="Pause tidy")).to_be_visible()
    assert not site.run(site.app.crons.get("tidy")).paused


def test_a_staged_version_is_activated(site: Site, page: Page) -> None:
    site.run(site.app.crons.stage([CronJob("brand new", Cron("0 9 * * *"), "desk:note", None)]))
    log_in(page, site, "#/crons")
    page.get_by_role("button", name="Activate…").click()
    expect(page.get_by_role("dialog")).to_contain_text("1 added, 0 updated, 2 deleted")
    confirm(page, "Activate")
    said(page, "1 added, 0 updated, 2 deleted, 0 unchanged.")
    expect(page.get_by_role("link", name="brand new")).to_be_visible()
    expect(page.get_by_role("link", name="tidy")).to_have_count(0)


def test_the_limit_of_a_pool_is_changed(site: Site, page: Page) -> None:
    log_in(page, site, "#/pools")
    page.get_by_role("button", name="Change the limit of hall").click()
    page.get_by_label("At the same time").fill("7")
    confirm(page, "Set")
    said(page, "The limit is 7 now.")
    expect(page.get_by_role("table", name="Pools")).to_contain_text("changed")
    (pool,) = site.app.scheduler.pools()
    assert pool.limit == 7
    page.get_by_role("button", name="Change the limit of hall").click()
    page.get_by_label("At the same time").fill("")
    confirm(page, "Set")
    said(page, "The limit is 2 now.")


def test_everything_is_paused_and_resumed_and_stands_on_record(site: Site, page: Page) -> None:
    log_in(page, site, "#/health")
    page.get_by_role("button", name="Pause everything…").click()
    page.get_by_label("Note (who and why)").fill("moving house")
    confirm(page, "Pause everything")
    expect(page.locator("main .notice")).to_contain_text("moving house")
    assert site.app.scheduler.paused == "moving house"
    page.get_by_role("button", name="Resume everything").click()
    expect(page.get_by_role("button", name="Pause everything…")).to_be_visible()
    assert site.app.scheduler.paused is None
    expect(page.get_by_role("table", name="Who did what")).to_contain_text("resume all")


def test_a_backup_is_the_whole_file(site: Site, page: Page, tmp_path: Path) -> None:
    job = site.ended("desk:note", {"text": "keep me"})
    log_in(page, site, "#/health")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download a backup").click()
    copy = tmp_path / "copy.db"
    download.value.save_as(copy)
    expect(page.locator(".saying").filter(has_text=hashlib.sha256(copy.read_bytes()).hexdigest())).to_be_visible()
    with sqlite3.connect(copy) as db:
        assert db.execute("SELECT count(*) FROM _scheduler_jobs").fetchone() == (1,), job
    db.close()


def test_a_refusal_is_said_with_the_request_to_look_for(site: Site, page: Page) -> None:
    job = site.job("desk:note", after=3600)
    log_in(page, site, f"#/jobs/{job}")
    expect(page.get_by_role("button", name="Run now")).to_be_visible()
    page.route("**/promote", lambda route: route.fulfill(
        status=503, json={"error": {"code": "UNAVAILABLE", "message": "the store is <i>busy</i>", "request_id": "r1"}}
    ))  # fmt: skip
    page.get_by_role("button", name="Run now").click()
    expect(
        page.get_by_role("alert").filter(has_text="the store is <i>busy</i> (UNAVAILABLE, request r1)")
    ).to_be_visible()
