"""The shop's web app: `uvicorn examples.shop.main:api` (one worker: one process owns the database file).

The scheduler is embedded in three lines: make an `App`, give it a schema, hand its lifespan to FastAPI.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header, Query
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from examples.shop import settings
from examples.shop.carts import carts, fill_cart
from examples.shop.digests import digests
from examples.shop.errors import answer_errors
from examples.shop.orders import Email, Item, Quantity, cancel_order, get_order, orders, place_order
from examples.shop.payments import payments
from examples.shop.reminders import reminders
from examples.shop.stats import audit, lateness, noted_ticks, stats, summary
from examples.shop.subscriptions import (
    TimeOfDay,
    Times,
    get_subscription,
    reminder_of,
    subscribe,
    subscriptions,
    unsubscribe,
)
from runtime import App

HERE = Path(__file__).parent
TICKS_SHOWN: Final = 1_000

OrderId = Annotated[int, InPath(ge=1, lt=2**63)]
Span = Annotated[str, Field(pattern=r"^\d{1,18}-\d{1,18}$")]

app = App(settings.DB, namespaces=[carts, digests, orders, payments, reminders, stats, subscriptions])
app.schema(HERE / "schema.sql", HERE / "crons.sql")
app.pool("gateway", 8)  # requests under way at the payment provider

# What happens again and again: a name, when, and a function.  A mistake in here stops the start, not the first tick.
app.crons.cron("daily digest", "0 8 * * *", "digests:send", tz="Europe/Paris")
app.crons.interval("sweep", "carts:sweep", seconds=settings.SWEEP_EVERY.total_seconds())  # every five minutes
app.crons.interval(
    "hours", "digests:count_hour", seconds=settings.HOURS_EVERY.total_seconds(),
    missed_tick_policy="all", max_catch_up_ticks=settings.HOURS_CAUGHT_UP, overlap="queue",
)  # fmt: skip

api = FastAPI(title="Shop", lifespan=app.lifespan)

answer_errors(api)

# The scheduler's own surface: the dashboard, the administration, metrics.  A door opens when the environment names its
# key: ACTOR_SCHEDULER_DEPLOY_KEY and the like.
api.mount("/scheduler", app.asgi())


class NewOrder(BaseModel):
    """What a customer sends."""

    email: Email
    item: Item
    quantity: Quantity = 1


@api.post("/orders", status_code=201)
async def post_order(
    order: NewOrder, idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None
) -> dict[str, int]:
    """Place an order.

    A client whose connection broke can't know whether the order was placed.  With an `Idempotency-Key` header it just
    sends the same request again: the order exists once, and every resend gets the first answer.
    """
    # The prefix keeps the keys that clients choose apart from any other keys of the app.
    caller = app if idempotency_key is None else app.idempotent(f"place_order {idempotency_key}")
    order_id = await caller.call(place_order, email=order.email, item=order.item, quantity=order.quantity)
    return {"order_id": order_id}


@api.get("/orders/{order_id}")
async def show_order(order_id: OrderId) -> dict[str, Any]:
    """Show an order."""
    return await app.call(get_order, order_id=order_id)


@api.post("/orders/{order_id}/cancel")
async def post_cancel(order_id: OrderId) -> dict[str, bool]:
    """Cancel an order, if that is still possible. Safe to send again: the answer stays the same."""
    return {"canceled": await app.call(cancel_order, order_id=order_id)}


class Cart(BaseModel):
    """What a customer has in mind."""

    item: Item
    quantity: Quantity = 1


@api.put("/carts/{email}", status_code=204)
async def put_cart(email: Email, cart: Cart) -> None:
    """Fill a cart; it is swept away when it was not touched for a while."""
    await app.call(fill_cart, email=email, item=cart.item, quantity=cart.quantity)


class Subscription(BaseModel):
    """What a customer wants to be reminded of, when, and how often."""

    item: Item
    at: TimeOfDay = "08:00"
    zone: str = "Europe/Paris"
    times: Times = 10


@api.put("/subscriptions/{email}")
async def put_subscription(email: Email, wanted: Subscription) -> dict[str, Any]:
    """Remind a customer every day, at their hour and in their zone. Sent again, it changes the subscription."""
    await app.call(subscribe, email=email, **wanted.model_dump())
    return await show_subscription(email)


@api.get("/subscriptions/{email}")
async def show_subscription(email: Email) -> dict[str, Any]:
    """Show a subscription, and when the next reminder is due."""
    found = await app.call(get_subscription, email=email)
    cron = await app.crons.get(reminder_of(found["id"]))
    return {**found, "next_at": cron and cron.next_at}


@api.delete("/subscriptions/{email}")
async def delete_subscription(email: Email) -> dict[str, bool]:
    """End a subscription. Safe to send again."""
    return {"ended": await app.call(unsubscribe, email=email)}


@api.get("/stats")
async def show_stats() -> dict[str, Any]:
    """Count orders and jobs."""
    return await app.call(summary)


@api.get("/stats/audit")
async def show_audit(
    after: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[dict[str, Any]]:
    """Show what the books say about each order, page by page."""
    return await app.call(audit, after=after, limit=limit)


@api.get("/stats/lateness")
async def show_lateness(down: Annotated[list[Span] | None, Query(max_length=100)] = None) -> list[dict[str, Any]]:
    """Show how late jobs started; each `down=from-to` (microseconds) is a time in which the shop was down."""
    spans = [(int(start), int(end)) for start, _, end in (span.partition("-") for span in down or [])]
    return await app.call(lateness, down=spans)


@api.get("/stats/ticks/{cron}")
async def show_ticks(cron: str) -> dict[str, Any]:
    """Show what became of a cron's newest ticks: by the shop's own log, and by the scheduler's."""
    return {
        "noted": await app.call(noted_ticks, cron=cron, limit=TICKS_SHOWN),
        "runs": await app.crons.runs(cron, limit=TICKS_SHOWN),
    }


@api.get("/health")
async def health() -> dict[str, bool]:
    """Answer as soon as the shop is open: the lifespan has begun, so the scheduler runs."""
    return {"ok": True}


@api.get("/", response_class=HTMLResponse, include_in_schema=False)
async def index() -> str:
    """Show what there is to play with."""
    return (HERE / "index.html").read_text("utf-8")
