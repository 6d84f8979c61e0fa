"""Who gets in, how long, and what is left behind."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Page, expect

from runtime.http import sessions
from tests.dashboard.browsing import Tabs, log_in
from tests.dashboard.sites import OPERATE, READ, Site


def test_a_wrong_key_is_told_so_and_the_right_one_gets_in(site: Site, page: Page) -> None:
    page.goto(site.page)
    key = page.get_by_label("Key")
    expect(key).to_be_focused()
    expect(key).to_have_attribute("type", "password")
    key.fill("wrong-" + OPERATE)
    key.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is not a key of this app.")
    expect(key).to_have_value("")
    key.fill(f" {OPERATE}\n")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    expect(page.get_by_text("operator", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")


def test_the_key_stays_nowhere(site: Site, page: Page) -> None:
    page.goto(site.page)
    page.get_by_label("Key").fill(OPERATE)
    page.get_by_label("Key").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, location.href, document.cookie])")
    assert OPERATE not in kept + page.content()
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert OPERATE not in cookie["value"]


def test_a_session_that_has_ended_leads_back_and_then_on_to_where_one_was(
    site: Site, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = site.job("desk:note", after=3600)
    log_in(page, site, f"#/jobs/{job}")
    with monkeypatch.context() as patch:
        patch.setattr(sessions, "IDLE_US", 0)
        page.evaluate("location.hash = '#/pools'")
        expect(page.get_by_text("Your session has ended. Log in again to go on where you were.")).to_be_visible()
    page.get_by_label("Key").fill(OPERATE)
    page.get_by_label("Key").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Pools")


def test_who_is_logged_out_is_asked_nothing_and_asks_nothing(site: Site, tabs: Tabs) -> None:
    """Not before the login, and not after a session has ended, however many failures its address has had."""
    page = tabs.open()
    page.clock.install()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/admin/" in request.url else None)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(site.page)
    expect(page.get_by_label("Key")).to_be_focused()
    page.clock.run_for(60_000)
    assert (asked, said) == ([], [])
    log_in(page, site)
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    refusal = {"error": {"code": "TOO_MANY_FAILURES", "message": "too many wrong secrets"}}
    page.route("**/admin/**", lambda route: route.fulfill(status=429, json=refusal))
    page.clock.run_for(16_000)
    expect(page.get_by_text("Your session has ended.")).to_be_visible()
    expect(page.locator(".saying")).to_have_count(0)
    asked.clear()
    page.clock.run_for(120_000)
    page.evaluate("location.hash = '#/jobs'")
    page.clock.run_for(1_000)
    assert asked == []
    page.reload()
    expect(page.get_by_label("Key")).to_be_focused()
    assert asked == []


def test_a_stream_that_ends_with_its_session_is_not_asked_for_again(site: Site, tabs: Tabs) -> None:
    page = tabs.open()
    log_in(page, site, "#/pools")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/admin/events" in request.url else None)
    site.sessions._sessions.clear()
    site.job("desk:note")
    expect(page.get_by_text("Your session has ended.")).to_be_visible()
    assert asked == []


def test_a_key_that_is_rotated_out_ends_its_sessions(site: Site, page: Page) -> None:
    log_in(page, site, "#/crons")
    site._asgi.routes[0].endpoint._doors._http.operate.rotate("operate-another-Tb4Xw8Qk2Zn6Lm0Vs3")
    page.evaluate("location.hash = '#/pools'")  # a click could come too late: the page may have found out by itself
    expect(page.get_by_text("Your session has ended.")).to_be_visible()


def test_who_logs_out_is_out(site: Site, page: Page) -> None:
    log_in(page, site)
    (cookie,) = page.context.cookies()
    assert page.evaluate("Object.keys(localStorage)") == ["actor-scheduler-logged-in /"]  # and the mount
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_text("You are logged out.")).to_be_visible()
    assert page.evaluate("localStorage.length") == 0
    assert page.context.cookies() == []
    again = httpx.get(f"{site.url}/admin/me", cookies={cookie["name"]: cookie["value"]})
    assert again.status_code == 401


def test_the_read_role_is_shown_no_button_that_changes_anything(site: Site, page: Page) -> None:
    failed = site.ended("desk:refuse", {"message": "none left"})
    site.job("desk:note", {"text": "secret"}, after=60)
    log_in(page, site, "#/jobs", READ)
    expect(page.get_by_text("read only")).to_be_visible()
    words = ("Run", "Cancel", "Drop", "Pause", "Resume", "Change", "Activate", "backup")
    for where in ("#/", "#/jobs", f"#/jobs/{failed}", "#/crons", "#/crons?name=tidy", "#/pools", "#/health"):
        page.goto(site.page + where)
        page.wait_for_selector("main h1")
        for word in words:
            expect(page.locator("main").get_by_role("button", name=word)).to_have_count(0)
        expect(page.locator("main input[type=checkbox]")).to_have_count(0)
    page.goto(f"{site.page}#/jobs/{failed}")
    expect(page.get_by_text("Arguments are not shown to the read role.")).to_be_visible()
    expect(page.get_by_text("none left").first).to_be_visible()  # what went wrong is no secret
    page.goto(f"{site.page}#/crons?name=tidy")
    expect(page.get_by_text("not shown to the read role")).to_be_visible()


def test_another_site_can_neither_log_in_nor_out(site: Site) -> None:
    with httpx.Client(base_url=site.url) as client:
        for headers in (
            {"Origin": "http://evil.example", "X-Actor-Scheduler": "1"},
            {"Sec-Fetch-Site": "cross-site"},
            {},
        ):
            answer = client.post("/dashboard/login", json={"key": OPERATE}, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "CROSS_SITE")
            assert "set-cookie" not in answer.headers


def test_logging_in_anew_ends_the_session_before(site: Site, page: Page) -> None:
    log_in(page, site)
    (first,) = page.context.cookies()
    log_in(page, site)
    assert httpx.get(f"{site.url}/admin/me", cookies={first["name"]: first["value"]}).status_code == 401
