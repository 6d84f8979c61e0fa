"""The shop's own log of its ticks: the demo audits this, and does not take the scheduler's word for it."""

from __future__ import annotations

from runtime import CronInvoker, MutationCtx


async def note_tick(ctx: MutationCtx, *, handled: int) -> None:
    """Write down that a tick ran, in the same transaction as what it did. A call that no cron caused leaves no note."""
    tick = ctx.invoker
    if isinstance(tick, CronInvoker):
        await ctx.db.execute(
            "INSERT INTO ticks (cron, tick, occurrence_id, skipped, handled) VALUES (?, ?, ?, ?, ?)",
            [tick.cron, tick.scheduled_at.isoformat(), tick.occurrence_id, tick.skipped_ticks, handled],
        )
