"""The crons that an app defines before it starts: gathered, checked against its functions, and made into a manifest."""

from __future__ import annotations

import re
from datetime import time
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.crons.definition import (
    Check,
    CronJob,
    CronOptions,
    Definition,
    Faults,
    check_faults,
    check_name,
    check_options,
    examine,
    schedule_of,
)
from actor_scheduler.crons.schedule import Cron, Every, Schedule
from actor_scheduler.errors import InvalidCron

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo

    from actor_scheduler.crons.spec import CronSpec

_TIME: Final = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")


class Definitions:
    """An app's own crons, by name."""

    def __init__(self) -> None:
        self._by_name: dict[str, Definition] = {}

    def add(self, job: CronJob, faults: Faults) -> None:
        """Define one cron. Raises InvalidCron with everything that is wrong with it; nothing is defined then."""
        definition = examine(job, faults)
        if definition is not None and definition.name in self._by_name:
            faults.add("name", "is taken by another cron of this app")
        check_faults(faults.found)
        assert definition is not None
        self._by_name[definition.name] = definition

    def add_all(self, jobs: Iterable[CronJob]) -> None:
        """Define many. Raises InvalidCron with everything that is wrong with any of them; none is defined then."""
        found: list[str] = []
        made = self._by_name.copy()
        for number, job in enumerate(jobs, 1):
            if not isinstance(job, CronJob):
                found.append(f"define_crons takes CronJob(…), and number {number} is {job!r:.80}")
                continue
            faults = Faults(job.name)
            definition = examine(job, faults)
            if definition is not None and made.setdefault(definition.name, definition) is not definition:
                faults.add("name", "is taken by another cron of this app")
            found.extend(faults.found)
        check_faults(found)
        self._by_name = made

    def specs(self, check: Check) -> list[CronSpec]:
        """Return what is kept of them. Raises InvalidCron with every target and every argument that is wrong."""
        specs: list[CronSpec] = []
        found: list[str] = []
        for definition in self._by_name.values():
            try:
                specs.append(definition.spec(check))
            except InvalidCron as error:
                found.append(str(error))
        check_faults(found)
        return specs


# ------------------------------------------------------------------ from what is said to a schedule


def cron_schedule(expr: Any, tz: str | ZoneInfo, faults: Faults, field: str = "expr") -> Cron | None:
    """Return the schedule of an expression in a zone; what is wrong with either goes to `faults`."""
    with faults.of(field):
        Cron(expr)
    with faults.of("tz"):
        Cron("@daily", tz=tz)
    return None if faults.found else Cron(expr, tz=tz)


def decorator_schedule(schedule: object, name: str | None, options: CronOptions) -> Schedule:
    """Return the schedule that a decorator was given. Raises InvalidCron with all that is wrong without a function.

    A decorator without its brackets is given the function itself, as its schedule.
    """
    faults = Faults(name if name is not None else "@app.crons.on")
    if name is not None:
        with faults.of("name"):
            check_name(name)
    made = None
    if isinstance(schedule, str | Cron | Every):
        with faults.of("schedule"):
            made = schedule_of(schedule)
    else:
        faults.add(
            "schedule", f'write @app.crons.on("0 9 * * *") or @app.crons.on(Every(hours=1)), not {schedule!r:.80}'
        )
    check_options(options, faults)
    check_faults(faults.found)
    assert made is not None
    return made


def minute_of(minute: object, faults: Faults) -> str:
    """Return the field of a minute."""
    return _number("minute", minute, 0, 59, faults)


def day_of_month(day: object, faults: Faults) -> str:
    """Return the field of a day of the month. Months that have no such day are left out, as in any cron."""
    return _number("day", day, 1, 31, faults)


def _number(field: str, value: object, low: int, high: int, faults: Faults) -> str:
    if type(value) is not int or not low <= value <= high:
        faults.add(field, f"a whole number from {low} to {high}, not {value!r:.40}")
        return "*"
    return str(value)


def day_of_week(day: object, faults: Faults) -> str:
    """Return the field of a weekday, by its English name or the first three letters of it."""
    names = [name for name in _DAYS if isinstance(day, str) and day.lower() in (name, name[:3])]
    if not names:
        faults.add("day", f"a day is one of {', '.join(_DAYS)}, or its first three letters, not {day!r:.40}")
        return "*"
    return names[0][:3]


def time_of_day(at: object, faults: Faults) -> str:
    """Return the fields of minute and hour of a time of the day: "HH:MM", or a `datetime.time` of whole minutes."""
    if isinstance(at, time):
        if at.tzinfo is not None:
            faults.add("at", "a time of the day has no zone of its own; give tz=…")
        elif at.second or at.microsecond:
            faults.add("at", f"a cron ticks on whole minutes, not at {at}")
        return f"{at.minute} {at.hour}"
    found = _TIME.fullmatch(at) if isinstance(at, str) else None
    if found is None:
        faults.add("at", f'a time of the day is "HH:MM" or a datetime.time, not {at!r:.40}')
        return "* *"
    return f"{int(found[2])} {int(found[1])}"
