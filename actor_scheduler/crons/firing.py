"""When a cron fires, and what falls due when it does. Pure: the schedule, the rule and the time are arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from actor_scheduler.crons.catchup import Plan, plan
from actor_scheduler.crons.jitter import jitter_us

if TYPE_CHECKING:
    from actor_scheduler.crons.schedule import Ticks
    from actor_scheduler.crons.spec import CronSpec


class Next(NamedTuple):
    """The tick a cron waits for, and when it fires: jitter lies between them."""

    tick_us: int
    fire_at_us: int


class Account(NamedTuple):
    """How far a cron is accounted for.

    Every tick up to `watermark_us` ran or was dropped; `skipped` of the dropped ones no run has been told of yet.
    `anchor_us` is where an interval counts from.
    """

    anchor_us: int
    watermark_us: int
    skipped: int = 0


def next_fire(spec: CronSpec, account: Account) -> Next | None:
    """Return what the cron waits for; None when nothing comes by itself."""
    if not spec.enabled or spec.clock == "external":
        return None
    ticks = spec.schedule.ticks(account.anchor_us)
    tick_us = ticks.next_us(account.watermark_us)
    return None if tick_us is None else Next(tick_us, _fire_at_us(spec, ticks, tick_us))


def _fire_at_us(spec: CronSpec, ticks: Ticks, tick_us: int) -> int:
    if not spec.jitter_us:
        return tick_us
    return tick_us + jitter_us(spec.name, tick_us, spec.jitter_us, ticks.next_us(tick_us))


def fall_due(
    spec: CronSpec, account: Account, now_us: int, unfinished: int, *, paused: bool = False
) -> tuple[Plan, Account]:
    """Return what becomes of the ticks that are due now, and how far the cron is accounted for then."""
    ticks = spec.schedule.ticks(account.anchor_us)
    newest_us = ticks.latest_us(now_us)
    fired_us = now_us if newest_us is None else _fire_at_us(spec, ticks, newest_us)
    if newest_us is not None and fired_us > now_us:  # its jitter is not over; that of every tick before it is
        newest_us = ticks.latest_us(newest_us - 1)
        fired_us = now_us if newest_us is None else _fire_at_us(spec, ticks, newest_us)
    return _settle(spec, ticks, account, newest_us, now_us - fired_us, unfinished, paused=paused)


def fall_due_outside(
    spec: CronSpec, account: Account, tick_us: int, now_us: int, unfinished: int, *, paused: bool = False
) -> tuple[Plan, Account]:
    """Return what becomes of the ticks up to one that an outside clock has named, and the account then."""
    ticks = spec.schedule.ticks(account.anchor_us)
    return _settle(spec, ticks, account, tick_us, max(now_us - tick_us, 0), unfinished, paused=paused)


def _settle(
    spec: CronSpec,
    ticks: Ticks,
    account: Account,
    newest_us: int | None,
    late_us: int,
    unfinished: int,
    *,
    paused: bool,
) -> tuple[Plan, Account]:
    if newest_us is None or newest_us <= account.watermark_us:
        return Plan((), (), account.skipped), account
    made = plan(
        ticks, spec.rule, after_us=account.watermark_us, upto_us=newest_us, late_us=late_us, unfinished=unfinished,
        skipped=account.skipped, paused=paused,
    )  # fmt: skip
    return made, Account(account.anchor_us, newest_us, made.skipped)
