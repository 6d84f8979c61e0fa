"""The audit of recurring work: every tick that was due ran once, or was skipped with a reason.

Three records are held against each other: the ticks there should have been, which follow from the first one and the
clock; the shop's own log of what ran; and what the scheduler says, runs and skips, by `app.crons.runs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from examples.shop.lines import Line, aligned

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REASONS: Final = {
    "policy": "a newer one ran instead",
    "cap": "more were missed than may be caught up",
    "age": "too old to be caught up",
    "overlap": "the run before had not ended",
}


@dataclass(frozen=True, slots=True)
class CronEvidence:
    """What is known about one cron that ticks by an interval. Times are microseconds since the epoch."""

    cron: str
    rule: str  # in words
    every_us: int
    opened: tuple[int, int]  # the shop's very first start: somewhere in it the first tick has to be
    until_us: int  # ticks after this one are left out: they may still be under way
    noted: Sequence[Mapping[str, Any]]  # the shop's own log
    runs: Sequence[Mapping[str, Any]]  # the scheduler's
    down: Sequence[tuple[int, int]]
    skipped_least: int = 0  # after an outage that is long enough


@dataclass(slots=True)
class _Account:
    """What became of each tick."""

    due: Sequence[int]
    ran: Counter[int] = field(default_factory=Counter)  # by the shop's own log
    occurrences: dict[str, set[int]] = field(default_factory=dict)
    told: int = 0  # skipped ticks, as the runs after them were told
    succeeded: Counter[int] = field(default_factory=Counter)  # by the scheduler
    skipped: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    miscounted: int = 0  # stretches of skipped ticks that hold another number of ticks than they say


def audit_cron(seen: CronEvidence) -> list[Line]:
    """Return the account of one cron, complaints and all."""
    account = _account(seen)
    due, ran, skipped = set(account.due), account.ran, account.skipped
    caught_up = [tick for tick in account.due if tick in ran and _while_down(tick, seen)]
    unaccounted = [tick for tick in account.due if tick not in ran and tick not in skipped]
    # The same tick twice in the shop's log, a run and a skip at once, or one occurrence for two ticks.
    twice = [tick for tick in ran | skipped if ran[tick] + skipped[tick] > 1]
    shared = [name for name, ticks in account.occurrences.items() if len(ticks) > 1]
    stray = [tick for tick in ran | skipped if tick not in due]
    differing = [tick for tick in ran | account.succeeded if ran[tick] != account.succeeded[tick]]
    newest_run = max(ran, default=0)
    to_tell = sum(count for tick, count in skipped.items() if tick < newest_run)
    reasons = "; ".join(
        f'{count} "{reason}": {_REASONS.get(reason, "see the docs")}' for reason, count in (+account.reasons).items()
    )
    seconds = seen.every_us / 1e6
    missed = int(any(_while_down(tick, seen) for tick in account.due))
    return [
        Line("ticks due", len(due), None, f"one every {seconds:g} s since the first, whether the shop was up or down"),
        Line("ran", sum(tick in due for tick in ran), None, "by the shop's own log, which the runs write"),
        Line("caught up after a kill", len(caught_up), None, "of those: were due while the shop was down", missed),
        Line("skipped with a reason", skipped.total(), None, reasons, seen.skipped_least),
        Line("unaccounted for", len(unaccounted), 0, "neither ran nor skipped"),
        Line("run twice", len(twice) + len(shared), 0, "or both run and skipped"),
        Line("off schedule", len(stray) + account.miscounted, 0, "ran or skipped, and was never due"),
        Line("logs differ", len(differing), 0, "ticks that ran, by the shop's log and by app.crons.runs"),
        Line("skips told to a run", account.told, to_tell, "the next one, as ctx.invoker.skipped_ticks"),
    ]


def cron_table(lines: Sequence[Line], seen: CronEvidence) -> str:
    """Return the account of one cron as text."""
    title = f'  cron "{seen.cron}", every {seen.every_us / 1e6:g} s; {seen.rule}'
    return f"{title}\n{aligned([line.row for line in lines])}"


def _account(seen: CronEvidence) -> _Account:
    noted = [(_us(row["tick"]), row) for row in seen.noted]
    runs = [(_us(row["first_tick"]), _us(row["tick"]), row) for row in seen.runs]
    account = _Account(_due(seen, [*(tick for tick, _ in noted), *(first for first, _, _ in runs)]))
    for tick, row in noted:
        if tick <= seen.until_us:
            account.ran[tick] += 1
            account.occurrences.setdefault(row["occurrence_id"], set()).add(tick)
            account.told += row["skipped"]
    for first, last, row in runs:
        if row["state"] == "skipped":
            stretch = range(first, last + 1, seen.every_us)
            account.miscounted += row["skipped"] != len(stretch) or stretch[-1] != last
            within = [tick for tick in stretch if tick <= seen.until_us]
            account.skipped.update(within)
            account.reasons[row["reason"]] += len(within)
        elif row["state"] == "success" and last <= seen.until_us:
            account.succeeded[last] += 1
    return account


def _due(seen: CronEvidence, known: Sequence[int]) -> Sequence[int]:
    """Return the ticks there should have been: from the first known one on, or from before it if it came too late."""
    opened_from, opened_until = seen.opened
    first = min((tick for tick in known if tick >= opened_from), default=opened_until)
    if first > opened_until:
        first += (opened_until - first) // seen.every_us * seen.every_us
    return range(first, seen.until_us + 1, seen.every_us)


def _while_down(tick: int, seen: CronEvidence) -> bool:
    return any(start <= tick < end for start, end in seen.down)


def _us(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
