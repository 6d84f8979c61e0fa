"""What the owner reads: a digest of the day before, every morning, and what was ordered in each hour.

Both go by the tick they run for, never by the time at which they happen to run.  After an outage the digest runs once,
late, and is told how many mornings it was not sent: it covers those days, too.  The hours are counted one by one, so
each missed one is caught up by a run of its own.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from examples.shop.settings import HOURS_EVERY
from examples.shop.ticks import note_tick
from runtime import CronInvoker, MutationCtx, Namespace, QueryCtx

digests = Namespace("digests", access="system")  # for crons and `app.crons.run_now`, not for `app.call`

OWNER: Final = "owner@example.com"
PARIS: Final = ZoneInfo("Europe/Paris")
_DAY: Final = timedelta(days=1)


@digests.mutation
async def send(ctx: MutationCtx) -> None:
    """Write the digest of yesterday, and of the days whose digest was missed, to the owner."""
    tick = ctx.invoker
    assert isinstance(tick, CronInvoker)
    today = tick.scheduled_at.astimezone(PARIS).date()
    yesterday, first_day = today - _DAY, today - _DAY * (1 + tick.skipped_ticks)
    count, amount = await _ordered(ctx, _midnight(first_day), _midnight(today))
    days = f"{yesterday}" if first_day == yesterday else f"{first_day} to {yesterday}"
    await ctx.db.execute(
        "INSERT INTO mails (recipient, subject, written_at) VALUES (?, ?, ?)",
        [OWNER, f"{days}: {count} orders, {amount / 100:.2f} EUR", ctx.now.isoformat()],
    )


@digests.mutation
async def count_hour(ctx: MutationCtx) -> None:
    """Count the orders of the hour that ended with the tick."""
    tick = ctx.invoker
    assert isinstance(tick, CronInvoker)
    count, _ = await _ordered(ctx, tick.scheduled_at - HOURS_EVERY, tick.scheduled_at)
    await note_tick(ctx, handled=count)


def _midnight(day: date) -> datetime:
    """Return when a day begins in Paris. The days of the clock change have 23 and 25 hours."""
    return datetime.combine(day, time(), PARIS).astimezone(UTC)


async def _ordered(ctx: QueryCtx, start: datetime, end: datetime) -> tuple[int, int]:
    """Return how many orders were placed from `start` up to `end`, and their amount in cents."""
    row = await ctx.db.fetch_one(
        """
        SELECT count(*), coalesce(sum(amount), 0) FROM orders
        WHERE placed_at >= ? AND placed_at < ? AND status <> 'canceled'
        """,
        [start.isoformat(), end.isoformat()],
    )
    assert row is not None
    return row[0], row[1]
