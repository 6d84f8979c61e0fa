"""The shop without its gateway, on a file of its own: what `jobs watch` watches in the test of the page."""

from __future__ import annotations

from examples.shop.carts import carts
from examples.shop.main import HERE
from examples.shop.orders import orders
from examples.shop.payments import payments
from examples.shop.reminders import reminders
from examples.shop.settings import DB
from runtime import App

app = App(DB, namespaces=[carts, payments, reminders, orders])
app.schema(HERE / "schema.sql", HERE / "crons.sql")
app.pool("gateway", 1)
