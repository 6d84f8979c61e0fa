"""Fixtures of the fault tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.store.sqlite.thread import InlineDb, ThreadDb
from tests.faults.injector import Injector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The database file."""
    return tmp_path / "app.db"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Injector]:
    """The injector. Every fault a test plans must happen."""
    injector = Injector()
    injector.install(monkeypatch)
    yield injector
    injector.check_fired()


@pytest.fixture(params=[InlineDb, ThreadDb])
def db(request: pytest.FixtureRequest) -> Any:
    """Where statements run: inline, or on a thread of their own as in production."""
    return request.param
