"""Orders: placed, then either canceled by the customer in time or confirmed by a timer, whichever comes first.

A mutation's writes, the jobs it schedules and the jobs it cancels are one transaction.  So there is no order without
its timer and no timer without its order, and the race between `confirm` and `cancel_order` has exactly one winner.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from examples.shop.payments import collect
from examples.shop.settings import CANCEL_WINDOW
from runtime import FunctionError, MutationCtx, Namespace, QueryCtx

orders = Namespace("orders")

PRICES: Final = {"espresso": 250, "tea": 300, "cake": 450}  # in cents

Email = Annotated[str, Field(min_length=3, max_length=200, pattern="@")]
Item = Literal["espresso", "tea", "cake"]
Quantity = Annotated[int, Field(ge=1, le=100)]


@orders.mutation(access="public")
async def place_order(ctx: MutationCtx, *, email: Email, item: Item, quantity: Quantity) -> int:
    """Store an order, start its timer, and return its number."""
    placed = await ctx.db.execute(
        "INSERT INTO orders (email, item, quantity, amount, placed_at) VALUES (?, ?, ?, ?, ?)",
        [email, item, quantity, PRICES[item] * quantity, ctx.now.isoformat()],
    )
    order_id = placed.lastrowid
    assert order_id is not None
    await ctx.db.execute("DELETE FROM carts WHERE email = ?", [email])
    job_id = await ctx.scheduler.after(CANCEL_WINDOW).call(confirm, order_id=order_id)
    await ctx.db.execute("UPDATE orders SET confirm_job = ? WHERE id = ?", [job_id, order_id])
    return order_id


@orders.mutation
async def confirm(ctx: MutationCtx, *, order_id: int) -> None:
    """Confirm an order that nobody canceled in time, and have it charged."""
    await ctx.db.execute("UPDATE orders SET status = 'confirmed' WHERE id = ?", [order_id])
    await ctx.run_mutation(collect, order_id=order_id)


@orders.mutation(access="public")
async def cancel_order(ctx: MutationCtx, *, order_id: int) -> bool:
    """Cancel an order and return True; return False if that comes too late, as the order is confirmed.

    `scheduler.cancel` decides the race.  True means that the timer will never start, False that it has started or
    ended; there is no third case, and no window in which both could win.  Asking again gives the same answer.
    """
    job_id = await ctx.db.fetch_value("SELECT confirm_job FROM orders WHERE id = ?", [order_id])
    if job_id is None:
        raise _not_found(order_id)
    in_time = await ctx.scheduler.cancel(job_id)
    if in_time:
        await ctx.db.execute("UPDATE orders SET status = 'canceled' WHERE id = ?", [order_id])
    return in_time


@orders.query(access="public")
async def get_order(ctx: QueryCtx, *, order_id: int) -> dict[str, Any]:
    """Return one order, and how often it was charged and the customer reminded."""
    row = await ctx.db.fetch_one(
        """
        SELECT id, email, item, quantity, amount, status, placed_at,
            (SELECT count(*) FROM charges WHERE order_id = orders.id) AS charges,
            (SELECT count(*) FROM outbox WHERE order_id = orders.id) AS reminders
        FROM orders WHERE id = ?
        """,
        [order_id],
    )
    if row is None:
        raise _not_found(order_id)
    return dict(row)


def _not_found(order_id: int) -> FunctionError:
    return FunctionError("NOT_FOUND", f"there is no order {order_id}")
