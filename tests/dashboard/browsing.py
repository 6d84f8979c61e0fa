"""Chromium, driven: one browser, and tabs that do not let anything pass unseen."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.dashboard.sites import OPERATE, Site

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING: Final = "there is no Chromium here: `make debian` installs it"
# What a browser writes to its console for every answer that is no 2xx: not an error of the page.
_ANSWERED: Final = "Failed to load resource: the server responded with a status of"


def chromium() -> str | None:
    """Return the path of a Chromium of this machine."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Start a browser; it ends with the block."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=sandbox)
        try:
            yield started
        finally:
            started.close()


class Tabs:
    """Pages of one test. Whatever a page should not do, in any of them, is in `problems`."""

    def __init__(self, started: Browser) -> None:
        self._browser = started
        self._contexts: list[BrowserContext] = []
        self.problems: list[str] = []
        self.expected: list[str] = []  # parts of problems that the test brings about

    def open(self, **options: Any) -> Page:
        """Return a page in a browser of its own: no cookies, nothing stored."""
        context = self._browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        context.set_default_timeout(15_000)
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._note(f"error: {error}"))
        page.on("dialog", lambda dialog: (self._note(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("popup", lambda other: self._note(f"popup: {other.url}"))
        page.on("frameattached", lambda frame: self._note(f"frame: {frame.url}"))
        return page

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(_ANSWERED):
            self._note(f"{message.type}: {message.text}")

    def _note(self, problem: str) -> None:
        if not any(each in problem for each in self.expected):
            self.problems.append(problem)

    def close(self) -> None:
        """Close all of them."""
        for context in self._contexts:
            context.close()


def log_in(page: Page, site: Site, where: str = "#/", key: str = OPERATE) -> None:
    """Log in without the form, and go somewhere. Returns when the place is shown."""
    headers = {"X-Actor-Scheduler": "1", "Origin": site.url}
    answer = page.context.request.post(f"{site.page}/login", data={"key": key}, headers=headers)
    assert answer.ok, answer.text()
    page.goto(f"{site.page}/icon.svg")  # of the page's origin, and not only another place of the page
    page.evaluate("localStorage.setItem('actor-scheduler-logged-in /', '1')")  # as the form does it
    page.goto(site.page + where)
    page.wait_for_selector("nav")
    page.wait_for_selector("main h1")


def go(page: Page, where: str) -> None:
    """Go to another place of the page."""
    page.evaluate("where => { location.hash = where; }", where)
