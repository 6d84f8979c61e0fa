"""What crons a simulated app has, and what happens to them: drawn from a seed. Swarm testing, as `options` has it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from actor_scheduler.crons.definition import CronJob
from actor_scheduler.crons.schedule import Cron, Every
from tests.proof.ticks import When
from tests.simulation.cron_rules import SECOND_US, Definition

MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
YEAR_US: Final = 365 * DAY_US

# By how far apart their ticks are.
SCHEDULES: Final[dict[str, tuple[When, ...]]] = {
    "seconds": (When(SECOND_US), When(7 * SECOND_US), When(90 * SECOND_US + 1), When(0, "*/5 * * * *")),
    "minutes": (
        When(0, "*/15 * * * *"), When(0, "0 * * * *", "Europe/Paris"), When(0, "*/20 1-3 * * *", "Europe/London"),
        When(20 * MINUTE_US), When(3_601 * SECOND_US), When(0, "30 * * * *", "Australia/Lord_Howe"),
    ),
    "days": (
        When(0, "30 2 * * *", "America/New_York"), When(0, "30 0 * * *", "America/Havana"), When(6 * HOUR_US),
        When(0, "0 */6 * * *", "America/St_Johns"), When(0, "0 9 * * MON-FRI", "Australia/Sydney"), When(DAY_US),
        When(0, "0 2 * * *", "Australia/Lord_Howe"), When(0, "15 3 * * SUN", "Africa/Cairo"),
    ),
    "months": (
        When(0, "0 0 1 * *"), When(0, "45 23 L * *", "Asia/Tehran"), When(30 * DAY_US), When(7 * DAY_US + 1),
        When(0, "0 12 29 2 *"), When(0, "30 1 * * MON#1", "America/Santiago"),
    ),
}  # fmt: skip
APART_US: Final = {"seconds": 20 * SECOND_US, "minutes": HOUR_US, "days": DAY_US, "months": 20 * DAY_US}

EVENTS: Final = (
    "suspend", "step forward", "step back", "pause", "resume", "register", "again", "update", "delete", "run by hand",
    "dispatch", "many", "activate",
)  # fmt: skip
ENDS: Final = ("kill", "kill at a point", "kill after a call", "stop")
KINDS: Final = {"quick": "mutation", "shaky": "mutation", "leaver": "mutation", "slow": "action", "flaky": "action"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options of a seed."""

    seed: int
    scales: tuple[str, ...]
    crons: int
    lives: int  # before the last one
    events: tuple[str, ...]
    ends: tuple[str, ...]
    order: str  # of the event loop's ready queue
    window_max: int
    manual: bool  # manifests wait until they are activated
    prunes: bool
    kinds: tuple[str, ...]
    dst: bool  # begins at night, right before clocks change
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def apart_us(self) -> int:
        """How far apart the ticks of its finest crons are, about."""
        return min(APART_US[scale] for scale in self.scales)


def draw(seed: int) -> Plan:
    """Return the options of a seed."""
    rng = random.Random(f"years {seed}")
    scales = rng.choice(
        (("seconds",), ("minutes",), ("days",), ("months", "days"), tuple(SCHEDULES), ("days", "minutes"))
    )
    share = rng.choice((0.3, 0.6, 1.0))
    return Plan(
        seed=seed,
        scales=scales,
        crons=rng.choice((1, 2, 3, 5, 8)),
        lives=rng.randint(1, 5),
        events=tuple(event for event in EVENTS if rng.random() < share),
        ends=tuple(end for end in ENDS if rng.random() < 0.7) or ("kill",),
        order=rng.choice(("fifo", "shuffle", "lag")),
        window_max=rng.choice((1, 2, 50_000)),
        manual=rng.random() < 0.15,
        prunes=rng.random() < 0.25,
        kinds=tuple(kind for kind in KINDS if rng.random() < 0.6) or ("quick",),
        dst=rng.random() < 0.3,
    )


def definition(rng: random.Random, plan: Plan, name: str) -> Definition:
    """Return some cron."""
    kind = rng.choice(plan.kinds)
    external = rng.random() < 0.12
    scale = rng.choice(plan.scales)
    jitter_us = 0 if external or rng.random() < 0.7 else rng.choice((1, SECOND_US, 45 * SECOND_US, HOUR_US, DAY_US))
    return Definition(
        name,
        rng.choice(SCHEDULES[scale]),
        f"year:{kind}",
        KINDS[kind],
        n=rng.randrange(3),
        missed=rng.choice(("latest", "latest", "all", "all", "skip")),
        max_ticks=rng.choice((1, 2, 3, 5, 12)),
        max_age_us=rng.choice((None, MINUTE_US, 6 * HOUR_US, 48 * HOUR_US, 40 * DAY_US)),
        overlap=rng.choice(("skip", "skip", "queue", "queue", "allow")),
        jitter_us=jitter_us,
        external=external,
        enabled=rng.random() > 0.1,
        text=rng.choice(("", "x")),
    )


def changed(rng: random.Random, plan: Plan, before: Definition) -> Definition:
    """Return a cron that differs in a few things."""
    other = definition(rng, plan, before.name)
    fields = [name for name in Definition._fields if name not in ("name", "path", "kind")]
    chosen = {name: getattr(other, name) for name in rng.sample(fields, rng.randint(1, 3))}
    if rng.random() < 0.2:
        chosen |= {"path": other.path, "kind": other.kind}
    made = before._replace(**chosen)
    return made._replace(jitter_us=0) if made.external else made


def job_of(told: Definition) -> CronJob:
    """Return a definition as the app says it."""
    return CronJob(told.name, schedule_of(told), told.path, {"n": told.n}, **options_of(told))


def schedule_of(told: Definition) -> Cron | Every:
    """Return when it ticks, as the app says it."""
    when = told.when
    return Every(timedelta(microseconds=when.every_us)) if when.every_us else Cron(when.expr, tz=when.tz)


def options_of(told: Definition) -> dict[str, Any]:
    """Return the rest, as the app says it."""
    age_us = told.max_age_us
    return {
        "missed_tick_policy": told.missed,
        "max_catch_up_ticks": told.max_ticks,
        "max_catch_up_age": None if age_us is None else timedelta(microseconds=age_us),
        "clock": "external" if told.external else "internal",
        "overlap": told.overlap,
        "jitter": timedelta(microseconds=told.jitter_us),
        "enabled": told.enabled,
        "description": told.text,
    }
