"""Looking after a database file from outside an app."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from actor_scheduler.clock import Clock, SystemClock
from actor_scheduler.store.sqlite.backup import Backup
from actor_scheduler.store.sqlite.doctor import Report
from actor_scheduler.store.sqlite.doctor import doctor as examine

if TYPE_CHECKING:
    import os

__all__ = ["Backup", "Report", "doctor"]


def doctor(db: str | os.PathLike[str], /, *, thorough: bool = False, clock: Clock | None = None) -> Report:
    """Examine a database file, in use or not, and return what was found; nothing is made or changed.

    `report.ok` says whether an app can run on it, `report.problems` what is wrong or worth knowing, the gravest first;
    `print(report.render())` says it all in plain text.  Never raises for anything that stands in the file.  `thorough`
    also compares every index with its table.  What is late is judged by `clock`, the system's unless it is given.
    """
    return examine(Path(db), (clock or SystemClock()).now_us(), thorough=thorough)
