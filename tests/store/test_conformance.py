"""The SQLite store behind the port, on aiosqlite's thread and inline: the same cases any other store must pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from actor_scheduler.clock import Clock
from actor_scheduler.store.base import Host, Store
from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.store.sqlite.app_schema import SchemaStep
from actor_scheduler.store.sqlite.thread import InlineDb, ThreadDb
from actor_scheduler.testing import conformance, cron_cases, cron_change_cases, operator_cases, steering_cases

STEPS = [SchemaStep(f"step {at}", sql) for at, sql in enumerate(conformance.SCHEMA)]


@pytest.mark.parametrize("make_db", [ThreadDb, InlineDb])
@pytest.mark.parametrize("case", conformance.CASES, ids=lambda case: case.__name__)
async def test_sqlite_conforms(case: conformance.Case, make_db: type[ThreadDb | InlineDb], tmp_path: Path) -> None:
    """Each case of the port's conformance suite holds, wherever the statements run."""

    def make_store(host: Host, clock: Clock) -> Store:
        return SqliteStore(tmp_path / "app.db", host, clock, schema=STEPS, lock_timeout_us=0, make_db=make_db)

    await case(make_store)


def test_every_case_of_the_suite_is_listed() -> None:
    """A case that is written but not in CASES would never run."""
    written = {
        name
        for module in (conformance, steering_cases, cron_cases, cron_change_cases, operator_cases)
        for name, thing in vars(module).items()
        if getattr(thing, "__module__", None) == module.__name__
        and getattr(thing, "__annotations__", {}).get("make_store")
        and name not in ("opened", "Bench")
    }
    assert written == {case.__name__ for case in conformance.CASES}
