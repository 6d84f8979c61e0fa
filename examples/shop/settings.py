"""What can be set from outside, by environment variables. Every one has a default."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Final


def _seconds(name: str, default: float) -> timedelta:
    return timedelta(seconds=float(os.environ.get(name, default)))


DB: Final = Path(os.environ.get("SHOP_DB", "shop.db"))

# How long a customer may change their mind, before the order is confirmed and charged.
CANCEL_WINDOW: Final = _seconds("SHOP_CANCEL_SECONDS", 10)

# How long the first attempt to charge an order may take, before another one is started beside it.
RETRY_AFTER: Final = _seconds("SHOP_RETRY_SECONDS", 5)

# When a customer who has paid is reminded to leave a review.
REMIND_AFTER: Final = _seconds("SHOP_REMIND_SECONDS", 3 * 24 * 3600)

# When a cart that nobody has touched is swept away, and how often somebody looks.
CART_LIFETIME: Final = _seconds("SHOP_CART_SECONDS", 3600)
SWEEP_EVERY: Final = _seconds("SHOP_SWEEP_SECONDS", 5 * 60)

# How long the owner's "hours" are, and how many of them are counted afterwards when the shop was down.
HOURS_EVERY: Final = _seconds("SHOP_HOUR_SECONDS", 3600)
HOURS_CAUGHT_UP: Final = int(os.environ.get("SHOP_HOURS_CAUGHT_UP", "48"))

# The payment provider is a fake, and keeps its records in a file of its own: it is not part of the shop.
GATEWAY_DB: Final = DB.with_name(f"{DB.stem}-gateway.db")
GATEWAY_FAILURES: Final = float(os.environ.get("SHOP_GATEWAY_FAILURES", "0.1"))
GATEWAY_LATENCY: Final = _seconds("SHOP_GATEWAY_LATENCY_SECONDS", 0.05)
