"""Fixtures of the dashboard's tests: one browser and one page for each file of them, a new app for each test.

No longer than a file: while it runs, the main thread counts as running an event loop, and no other test can run one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.dashboard.browsing import MISSING, Tabs, browser, chromium
from tests.dashboard.sites import Site, make_app, serving


@pytest.fixture(scope="module")
def started() -> Iterator[Browser]:
    if chromium() is None:
        pytest.skip(MISSING)
    with browser() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(lambda: make_app(tmp_path / "desk.db")) as served:
        yield served


@pytest.fixture
def tabs(started: Browser) -> Iterator[Tabs]:
    """Pages that say nothing in the console, open no dialog, break no policy: what they do so fails the test."""
    opened = Tabs(started)
    try:
        yield opened
    finally:
        opened.close()
    assert opened.problems == []


@pytest.fixture(scope="module")
def kept(started: Browser) -> Iterator[tuple[Tabs, Page]]:
    tabs = Tabs(started)
    yield tabs, tabs.open()
    tabs.close()


@pytest.fixture
def page(kept: tuple[Tabs, Page]) -> Iterator[Page]:
    """A page as `tabs` gives them, in a browser of its own for each file: to open one takes longer than most tests.

    Each test finds it empty, without cookies and routes. What a site stores stays with its origin, and each test has a
    site of its own. Who puts its clock forward, listens to it or changes its size opens another.
    """
    tabs, opened = kept
    yield opened
    opened.unroute_all()
    opened.goto("about:blank")
    opened.context.clear_cookies()
    problems, tabs.problems = tabs.problems, []
    assert problems == []
