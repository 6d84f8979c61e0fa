"""Carts: what a customer means to order. One that nobody has touched for a while is swept away."""

from __future__ import annotations

from typing import Final

from examples.shop.orders import Email, Item, Quantity
from examples.shop.settings import CART_LIFETIME
from examples.shop.ticks import note_tick
from runtime import MutationCtx, Namespace

carts = Namespace("carts")

SWEPT_AT_ONCE: Final = 1_000  # some milliseconds of the one writer; the next tick goes on


@carts.mutation(access="public")
async def fill_cart(ctx: MutationCtx, *, email: Email, item: Item, quantity: Quantity) -> None:
    """Put something into a customer's cart, instead of what was in it."""
    await ctx.db.execute(
        "INSERT OR REPLACE INTO carts (email, item, quantity, touched_at) VALUES (?, ?, ?, ?)",
        [email, item, quantity, ctx.now.isoformat()],
    )


@carts.mutation
async def sweep(ctx: MutationCtx) -> int:
    """Throw away carts that nobody has touched for a while, the oldest first, and return how many."""
    swept = await ctx.db.execute(
        "DELETE FROM carts WHERE email IN (SELECT email FROM carts WHERE touched_at <= ? ORDER BY touched_at LIMIT ?)",
        [(ctx.now - CART_LIFETIME).isoformat(), SWEPT_AT_ONCE],
    )
    await note_tick(ctx, handled=swept.rowcount)
    return swept.rowcount
