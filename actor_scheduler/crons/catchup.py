"""What becomes of the ticks of one cron that are due: which run, which are dropped, and why. Pure.

The due ticks that run are always the newest ones, and all that are dropped are older than all that run.  So a plan is
found from the newest tick backwards: its cost is that of `CatchUp.max_ticks` steps, whatever the length of the outage.

A tick is *missed* when a newer one is due too, or when it is more than MISSED_AFTER_US late.  A newest tick that is not
missed is merely late, and no policy and no cap on age drops it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from actor_scheduler.limits import MISSED_AFTER_US, SECOND_US

if TYPE_CHECKING:
    from actor_scheduler.crons.schedule import Ticks

MissedTicks: TypeAlias = Literal["latest", "all", "skip"]
Overlap: TypeAlias = Literal["skip", "queue", "allow"]
SkipReason: TypeAlias = Literal[
    "policy", "cap", "age", "overlap", "paused", "stale_manifest", "disabled", "before_definition"
]


class CatchUp(NamedTuple):
    """The rule of one cron.

    `missed` says what becomes of missed ticks: only the newest due tick runs (`latest`), each runs (`all`), none does
    (`skip`).  `max_ticks` (from 1) and `max_age_us` (None: any age) bound what `all` runs.  `overlap` says what becomes
    of due ticks while a run has not ended: they are dropped (`skip`), they wait, `max_ticks` at most (`queue`), or they
    run beside it (`allow`).
    """

    missed: MissedTicks = "latest"
    max_ticks: int = 100
    max_age_us: int | None = 48 * 3600 * SECOND_US
    overlap: Overlap = "skip"


class Run(NamedTuple):
    """A tick that runs.

    `skipped` is how many older ticks were dropped since the run before.  `window` is set only while `all` replays
    missed ticks: the oldest and the newest tick of the replay.
    """

    tick_us: int
    skipped: int = 0
    window: tuple[int, int] | None = None


class Drop(NamedTuple):
    """A stretch of `count` ticks that did not run, from its first tick to its last one."""

    reason: SkipReason
    first_us: int
    last_us: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which no one needs here


class Plan(NamedTuple):
    """What becomes of the due ticks. Each one stands in exactly one of `runs` and `drops`, both oldest first.

    `skipped` is how many dropped ticks no run has been told of yet; the next plan of this cron takes it on.
    """

    runs: tuple[Run, ...]
    drops: tuple[Drop, ...]
    skipped: int


def plan(
    ticks: Ticks,
    rule: CatchUp,
    *,
    after_us: int,
    upto_us: int,
    late_us: int,
    unfinished: int,
    skipped: int = 0,
    paused: bool = False,
) -> Plan:
    """Return what becomes of each tick in (after_us, upto_us]; the caller moves its watermark to `upto_us`.

    `late_us` is how late the newest of them is, `unfinished` how many runs of this cron have not ended, and `skipped`
    what the last plan left over.  `paused` says that the ticks were missed because the cron was paused: it is then the
    reason of what the policy drops.  No tick is lost from the count: the sum of `Run.skipped`, plus `Plan.skipped`, is
    `skipped` plus the sum of `Drop.count`.
    """
    newest_us = ticks.latest_us(upto_us)
    if newest_us is None or newest_us <= after_us:
        return Plan((), (), skipped)
    missed = late_us > MISSED_AFTER_US
    reason, edge_us = _refused(rule, newest_us, late_us, busy=unfinished > 0, missed=missed)
    if reason == "policy" and paused:
        reason = "paused"
    settled_us = after_us if edge_us is None else max(after_us, edge_us)
    kept = _newest_first(ticks, settled_us, newest_us, _room(rule, unfinished))
    drops = (
        *drop_all(ticks, after_us=after_us, upto_us=settled_us, reason=reason),
        *drop_all(ticks, after_us=settled_us, upto_us=kept[-1] - 1 if kept else newest_us, reason="cap"),
    )
    told = skipped + sum(drop.count for drop in drops)
    if not kept:
        return Plan((), drops, told)
    replay = rule.missed == "all" and (missed or len(kept) > 1)
    window = (kept[-1], kept[0]) if replay else None
    first = Run(kept.pop(), told, window)
    return Plan((first, *(Run(tick_us, 0, window) for tick_us in reversed(kept))), drops, 0)


def drop_all(ticks: Ticks, *, after_us: int, upto_us: int, reason: SkipReason) -> tuple[Drop, ...]:
    """Return the ticks in (after_us, upto_us] as one dropped stretch; nothing when there are none."""
    first_us = ticks.next_us(after_us) if after_us < upto_us else None
    if first_us is None or first_us > upto_us:
        return ()
    last_us = ticks.latest_us(upto_us)
    assert last_us is not None  # the first one is at or before upto_us
    return (Drop(reason, first_us, last_us, ticks.count(after_us, upto_us)),)


def _refused(rule: CatchUp, newest_us: int, late_us: int, *, busy: bool, missed: bool) -> tuple[SkipReason, int | None]:
    """Return up to which moment due ticks are dropped whatever their number, and why; None: none is."""
    most_us = newest_us if missed else newest_us - 1  # a newest tick that is merely late is spared
    if busy and rule.overlap == "skip":
        return "overlap", newest_us
    if rule.missed == "latest":
        return "policy", newest_us - 1
    if rule.missed == "skip":
        return "policy", most_us
    if rule.max_age_us is None:
        return "age", None
    return "age", min(newest_us + late_us - rule.max_age_us - 1, most_us)


def _room(rule: CatchUp, unfinished: int) -> int:
    """Return how many of the ticks that are not refused may run."""
    most = rule.max_ticks if rule.missed == "all" else 1
    return min(most, rule.max_ticks - unfinished) if rule.overlap == "queue" else most


def _newest_first(ticks: Ticks, after_us: int, newest_us: int, most: int) -> list[int]:
    """Return the newest ticks after a moment, at most `most` of them."""
    kept = [newest_us] if newest_us > after_us and most > 0 else []
    while 0 < len(kept) < most:
        tick_us = ticks.latest_us(kept[-1] - 1)
        if tick_us is None or tick_us <= after_us:
            break
        kept.append(tick_us)
    return kept
