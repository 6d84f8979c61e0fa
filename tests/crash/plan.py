"""What the parent tells one child: which file, what to ask for, and where to die."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STATEMENT = "statement"  # any statement on the writer's connection, from the start on


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One life of one child."""

    db: str
    starts: str  # the file, outside the database, in which actions record their starts
    seed: int = 0
    life: int = 0
    calls: int = 10  # of each worker
    workers: int = 4
    only: str | None = None  # one kind of call, as Workload names it
    resend: Sequence[dict[str, Any]] = field(default_factory=list)  # asks that a life before got no answer to
    targets: Sequence[str] = field(default_factory=list)
    die_at: str | None = None  # a crash point, or STATEMENT
    die_after: int = 1  # at which reach of it
    finish_within_s: float | None = None  # ask for nothing; leave when every job has ended, or after this long
    auth: bool = False
    grace_s: float = 10.0
    slots: int = 100
    rich: bool = False  # retries, time limits, lanes, cancels of what runs, jobs that are forgotten
    manifest: int | None = None  # which version of the crons the code defines; None: there are no crons at all
    crons: Sequence[str] = field(default_factory=list)  # those that were registered before
    ahead_us: int = 0  # how far its clock is ahead of the real one: what passes between two lives is an outage
    planted: str | None = None

    def save(self, path: Path) -> Path:
        """Write the plan to a file and return its path."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))
