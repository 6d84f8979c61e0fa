"""Subscriptions: a customer is reminded to order, every day at an hour and in a time zone of their own.

Each customer's reminder is a cron of its own, registered while the app runs.  That happens in the mutation that stores
the subscription, so neither is there without the other.  Such crons survive restarts, and no deploy touches them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from examples.shop.orders import Email, Item
from runtime import Cron, FunctionError, MutationCtx, Namespace, QueryCtx, UnknownZone

subscriptions = Namespace("subscriptions")

TimeOfDay = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Times = Annotated[int, Field(ge=1, le=1_000)]


@subscriptions.mutation(access="public")
async def subscribe(ctx: MutationCtx, *, email: Email, item: Item, at: TimeOfDay, zone: str, times: Times) -> None:
    """Remind a customer so many times, once a day. Subscribing again changes what was there."""
    subscription_id = await ctx.db.fetch_value(
        """
        INSERT INTO subscriptions (email, item, times_left) VALUES (?, ?, ?)
        ON CONFLICT (email) DO UPDATE SET item = excluded.item, times_left = excluded.times_left
        RETURNING id
        """,
        [email, item, times],
    )
    hour, minute = at.split(":")
    try:
        daily = Cron(f"{minute} {hour} * * *", tz=zone)
    except UnknownZone as error:
        raise _bad_request(error) from error
    # `register` creates the cron, or changes it.  "skip": nobody wants the breakfast reminder in the afternoon.
    await ctx.crons.register(
        reminder_of(subscription_id), daily, remind.bind(subscription_id=subscription_id), missed_tick_policy="skip"
    )


@subscriptions.mutation(access="public")
async def unsubscribe(ctx: MutationCtx, *, email: Email) -> bool:
    """End a customer's subscription and return whether there was one. From here on no reminder is written."""
    subscription_id = await ctx.db.fetch_value("SELECT id FROM subscriptions WHERE email = ?", [email])
    if subscription_id is None:
        return False
    await _end(ctx, subscription_id)
    return True


@subscriptions.mutation
async def remind(ctx: MutationCtx, *, subscription_id: int) -> None:
    """Write a customer's reminder. The last one ends the subscription: a cron may delete itself."""
    subscription = await ctx.db.fetch_one(
        "UPDATE subscriptions SET times_left = times_left - 1 WHERE id = ? RETURNING email, item, times_left",
        [subscription_id],
    )
    assert subscription is not None  # it goes together with the cron
    await ctx.db.execute(
        "INSERT INTO mails (recipient, subject, written_at) VALUES (?, ?, ?)",
        [subscription["email"], f"Time for your {subscription['item']}", ctx.now.isoformat()],
    )
    if subscription["times_left"] == 0:
        await _end(ctx, subscription_id)


@subscriptions.query(access="public")
async def get_subscription(ctx: QueryCtx, *, email: Email) -> dict[str, Any]:
    """Return one customer's subscription."""
    row = await ctx.db.fetch_one("SELECT id, email, item, times_left FROM subscriptions WHERE email = ?", [email])
    if row is None:
        raise _not_found(email)
    return dict(row)


def reminder_of(subscription_id: int) -> str:
    """Return the name of a subscription's cron."""
    return f"reminder/{subscription_id}"


async def _end(ctx: MutationCtx, subscription_id: int) -> None:
    await ctx.db.execute("DELETE FROM subscriptions WHERE id = ?", [subscription_id])
    await ctx.crons.delete(reminder_of(subscription_id))


def _bad_request(error: Exception) -> FunctionError:
    return FunctionError("BAD_REQUEST", str(error))


def _not_found(email: str) -> FunctionError:
    return FunctionError("NOT_FOUND", f"{email} has no subscription")
