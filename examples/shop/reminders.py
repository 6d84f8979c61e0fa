"""Reminders: e-mails that are due days from now, written to an outbox.

A mutation can't send mail, but it can write down that a mail is to be sent, exactly once.  Whatever empties the outbox
talks to the outside world, so it would be an action, with the same care as in `payments`.
"""

from __future__ import annotations

from runtime import MutationCtx, Namespace

reminders = Namespace("reminders")


@reminders.mutation
async def remind(ctx: MutationCtx, *, order_id: int) -> None:
    """Ask a customer who has paid for a review."""
    # Arguments are kept until the job runs, here for days: so they say which order, and the rest is read now.
    await ctx.db.execute(
        """
        INSERT INTO outbox (order_id, recipient, subject, written_at)
        SELECT id, email, 'How was your ' || item || '?', ? FROM orders WHERE id = ?
        """,
        [ctx.now.isoformat(), order_id],
    )
