"""The crons of the crash test's app: those that the code defines, a version for each life, and those made at run time.

Their intervals are of milliseconds: a life is too short for the second that is the least outside of these tests.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from actor_scheduler.crons import schedule
from actor_scheduler.crons.definition import CronJob
from actor_scheduler.crons.schedule import Cron, Every
from actor_scheduler.store.sqlite import store

VERSIONS: Final = 4
SLOW: Final = 4  # one more version, for a virtual clock that has long to go: its intervals are of seconds
SLOWLY: Final = "slow"  # begins a name that is registered with such an interval
STEADY: Final = ("fast", "all", "aged", "act", "late", "minute")  # in every version, and always the same
OUTSIDE: Final = "outside"  # ticks when it is told to
END: Final = "~"  # begins the end of a name that is registered at run time, which says what becomes of it
ONCE, GONE, KEPT = f"{END}once", f"{END}gone", f"{END}kept"  # deletes itself, may be deleted, must stay
FINISH: Final = "the last life is over"  # the note of a pause that only ends the test

TICK, TOCK = "crash:tick", "crash:tock"
_ZONE: Final = "Europe/Paris"
_EVERY_US_MIN: Final = 1_000

# A test's own record, in the same transactions as what it records.
_LOGGED: Final = "name, spec, anchor_us, watermark_us, fire_at_us, paused_at_us, note, trouble"
_LOG: Final = (
    """CREATE TABLE IF NOT EXISTS cron_log (
        number INTEGER PRIMARY KEY, change TEXT NOT NULL, name TEXT NOT NULL, spec BLOB NOT NULL,
        anchor_us INTEGER NOT NULL, watermark_us INTEGER NOT NULL, fire_at_us INTEGER, paused_at_us INTEGER,
        note TEXT NOT NULL, trouble TEXT
    ) STRICT""",
    *(
        f"CREATE TRIGGER IF NOT EXISTS cron_{change} AFTER {change} ON _scheduler_crons BEGIN"
        f" INSERT INTO cron_log (change, {_LOGGED}) VALUES ('{change}',"
        f" {', '.join(f'{row}.{column}' for column in _LOGGED.split(', '))}); END"
        for change, row in (("insert", "new"), ("update", "new"), ("delete", "old"))
    ),
)


def prepare() -> None:
    """Let this process have such crons, and record every change of one. To be done before it starts an app."""
    vars(schedule).update(EVERY_US_MIN=_EVERY_US_MIN)
    migrate = store.migrate

    def migrate_and_watch(raw: sqlite3.Connection, now_us: int) -> None:
        migrate(raw, now_us)
        for statement in _LOG:
            raw.execute(statement)

    vars(store).update(migrate=migrate_and_watch)


@dataclass(frozen=True, slots=True)
class Defined:
    """A cron as the code defines it: an interval in milliseconds, or an expression."""

    name: str
    when: int | str
    target: str = TICK
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, Any]:
        """Its schedule, as it is stored."""
        return {"every_us": self.when * 1_000} if isinstance(self.when, int) else {"cron": self.when, "tz": _ZONE}

    def job(self) -> CronJob:
        """Return what an app takes."""
        when = Every(timedelta(milliseconds=self.when)) if isinstance(self.when, int) else Cron(self.when, tz=_ZONE)
        return CronJob(self.name, when, self.target, {"name": self.name}, **self.options)


def manifest(version: int) -> list[Defined]:
    """Return what the code defines: six that never change, one for outside, and those that differ by the version."""
    if version == SLOW:
        return [
            Defined(SLOWLY, 20_000),
            Defined("slow-all", 24_000, options={"missed_tick_policy": "all", "max_catch_up_ticks": 4}),
            Defined("slow-act", 22_000, TOCK),
            Defined("slow-minute", "* * * * *", options={"overlap": "queue"}),
        ]
    odd, high = version % 2 == 1, version // 2 % 2 == 1
    every: dict[str, Any] = {"missed_tick_policy": "all"}
    defined = [
        Defined("fast", 40),
        Defined("all", 60, options={**every, "max_catch_up_ticks": 4, "overlap": "allow"}),
        Defined("aged", 70, options={**every, "max_catch_up_age": timedelta(seconds=0.3), "overlap": "queue"}),
        Defined("act", 50, TOCK),
        Defined("late", 55, options={"missed_tick_policy": "skip", "jitter": timedelta(milliseconds=20)}),
        Defined("minute", "* * * * *", options=every),
        Defined(OUTSIDE, 90, options={"clock": "external"}),
        Defined("turned", 65, TOCK if odd else TICK),
        Defined("moved", "*/2 * * * *" if odd and high else 45 if odd else 80, options={"overlap": "queue"}),
        Defined("switched", 75, options={"enabled": not high}),
    ]
    if odd:
        defined.append(Defined("added", 35))
    if not high:
        defined.append(Defined("removed", 50, TOCK, {"overlap": "queue", "max_catch_up_ticks": 3}))
    return defined


def registered(name: str) -> tuple[Every, str, dict[str, Any], dict[str, Any]]:
    """Return what a cron of this name is registered with; the name says all."""
    rng = random.Random(name)
    options: dict[str, Any] = {"missed_tick_policy": rng.choice(("latest", "all", "skip")), "max_catch_up_ticks": 3}
    if not name.endswith(ONCE):
        options["overlap"] = rng.choice(("skip", "queue", "allow"))
    target = TICK if name.endswith(ONCE) else rng.choice((TICK, TOCK))
    span = timedelta(milliseconds=rng.choice((120, 230, 410))) * (100 if name.startswith(SLOWLY) else 1)
    return Every(span), target, {"name": name}, options
