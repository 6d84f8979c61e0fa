"""Charging an order exactly once, though the gateway is flaky and the process may be killed at any moment.

This is the pattern for any call to the outside world that has to have happened once.  It takes three functions,
because each kind of function can promise only a part:

1. `collect`, a mutation, starts an attempt and, in the same transaction, schedules itself to look again later.  From
   the moment an order is confirmed until it is paid there is a job that looks after it, and no crash can lose that
   job: it is a row that was committed together with the order's state.
2. `charge`, an action, talks to the gateway.  An action is started at most once, so it may fail, hang, or be cut off
   by a kill when the money has already moved.  Nobody has to notice that: the order is still unpaid, so the next look
   starts another attempt.  Every attempt for an order gives the gateway the same idempotency key, and the gateway
   charges once under one key.  So the key is made from the order.  (`ctx.idempotency_key` is one for each job, and
   every attempt here is a job of its own: it would be charged again.)
3. `record_charge`, a mutation, writes the books.  It changes an unpaid order into a paid one, or nothing at all.  So
   when two attempts overlap and both get their answer, the second to arrive finds that there is nothing left to do.

At the gateway: at least one attempt, and one charge, since it knows the key again.  In the books: exactly one entry.
"""

from __future__ import annotations

from datetime import timedelta

from examples.shop.gateway import gateway
from examples.shop.reminders import remind
from examples.shop.settings import REMIND_AFTER, RETRY_AFTER
from runtime import ActionCtx, MutationCtx, Namespace, QueryCtx

payments = Namespace("payments")


@payments.mutation
async def collect(ctx: MutationCtx, *, order_id: int, attempt: int = 1) -> None:
    """Start an attempt to charge an order, and look again later; an order that is paid is left alone."""
    status = await ctx.db.fetch_value("SELECT status FROM orders WHERE id = ?", [order_id])
    if status != "confirmed":
        return
    await ctx.scheduler.now().call(charge, order_id=order_id)
    again = await ctx.scheduler.after(_patience(attempt)).call(collect, order_id=order_id, attempt=attempt + 1)
    await ctx.db.execute("UPDATE orders SET collect_job = ? WHERE id = ?", [again, order_id])


def _patience(attempt: int) -> timedelta:
    """Return how long to wait for an attempt: longer each time, up to eight times as long."""
    return RETRY_AFTER * (1, 2, 4, 8)[min(attempt, 4) - 1]


@payments.action(pool="gateway")  # so many at once, whoever charges: an operator can turn it down, or off
async def charge(ctx: ActionCtx, *, order_id: int) -> None:
    """Make one attempt to charge an order. An error just ends the attempt: `collect` will look again."""
    amount = await ctx.run_query(amount_due, order_id=order_id)
    if amount is None:
        return
    bank = await ctx.use(gateway)
    gateway_id = await bank.charge(f"order-{order_id}", order_id=order_id, amount=amount)
    await ctx.run_mutation(record_charge, order_id=order_id, amount=amount, gateway_id=gateway_id)


@payments.query
async def amount_due(ctx: QueryCtx, *, order_id: int) -> int | None:
    """Return what is still to be paid for an order, or None when there is nothing."""
    return await ctx.db.fetch_value(
        "SELECT amount FROM orders WHERE id = ? AND status = 'confirmed'", [order_id], into=int
    )


@payments.mutation
async def record_charge(ctx: MutationCtx, *, order_id: int, amount: int, gateway_id: str) -> bool:
    """Book a charge unless it is booked already, and return whether this call did it."""
    paid = await ctx.db.execute("UPDATE orders SET status = 'paid' WHERE id = ? AND status = 'confirmed'", [order_id])
    if paid.rowcount == 0:
        return False
    await ctx.db.execute(
        "INSERT INTO charges (order_id, amount, gateway_id, booked_at) VALUES (?, ?, ?, ?)",
        [order_id, amount, gateway_id, ctx.now.isoformat()],
    )
    # Only tidying up: a `collect` that still runs would see that the order is paid, and do nothing.
    collect_job = await ctx.db.fetch_value("SELECT collect_job FROM orders WHERE id = ?", [order_id])
    await ctx.scheduler.cancel(collect_job)
    await ctx.scheduler.after(REMIND_AFTER).call(remind, order_id=order_id)
    return True
