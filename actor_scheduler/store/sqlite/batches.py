"""Batches of units: what stands together, how a batch is split, and what is said of one that could not be run."""

from __future__ import annotations

import itertools
import sqlite3
from typing import TYPE_CHECKING, Final, TypeVar

from actor_scheduler.errors import IntegrityError, StoreUnavailable, said
from actor_scheduler.store.base import (
    Effects,
    InsertJobs,
    Refused,
    TurnResult,
    Unit,
)
from actor_scheduler.store.sqlite.faults import (
    code_of,
    transaction_lost,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


U = TypeVar("U", bound=Unit)
BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Definite(Exception):
    """A batch was rolled back whole. `at` is the unit that is to blame, None when only the commit knows."""

    def __init__(self, error: Exception, at: int | None) -> None:
        super().__init__(said(error))
        self.error = error
        self.at = at


def run_of(kind: type[U], batch: list[Unit], at: int) -> Iterator[U]:
    """Yield the units from `at` on, as long as they are of one kind."""
    for unit in itertools.islice(batch, at, None):
        if not isinstance(unit, kind):
            return
        yield unit


def is_plain(unit: InsertJobs) -> bool:
    """Whether none of these jobs has a key to settle, or a lane to wait in: one statement can store them all."""
    return all(job.key is None and job.idempotency_key is None and job.lane is None for job in unit.jobs)


def split(batch: list[Unit], at: int | None) -> list[list[Unit]]:
    """Return the parts of a batch to run again: around the unit to blame, or in halves when it is not known."""
    if at is None or at >= len(batch):
        half = len(batch) // 2
        return [batch[:half], batch[half:]]
    return [part for part in (batch[:at], [batch[at]], batch[at + 1 :]) if part]


def refused_commit(error: sqlite3.Error) -> Exception:
    """Return the error of a commit that definitely did not happen."""
    if code_of(error) == sqlite3.SQLITE_CONSTRAINT:
        return IntegrityError(f"the commit was refused: {error}")
    return transaction_lost(error)


def stop(result: TurnResult, rest: Sequence[Sequence[Unit]], error: Exception) -> None:
    """Refuse what definitely did not happen, and have the store reopened."""
    refused = StoreUnavailable(f"not done, the database failed: {error}")
    result.broken = refused
    result.replies.extend(Refused(refused) for part in rest for _ in part)


def merge(into: Effects, effects: Effects) -> None:
    """Add what one committed batch changed to what the turn has changed.

    Who reads the whole takes out what is gone, then takes in what is pending.  So what went after it was pending is not
    pending; what went and is back in a later batch, such as the head of a lane, is both.
    """
    pending = effects.pending
    if effects.gone:
        gone = set(effects.gone)
        pending = [waiting for waiting in pending if waiting not in gone]
        into.pending = [waiting for waiting in into.pending if waiting not in gone]
    into.pending.extend(pending)
    into.gone.extend(effects.gone)
    into.ended.extend(effects.ended)
    into.stopping.extend(effects.stopping)
