"""Fixtures of the dashboard's tests: one browser for each file of them, a new app for each test.

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


@pytest.fixture
def page(tabs: Tabs) -> Page:
    return tabs.open()
