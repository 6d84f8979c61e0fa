"""A fake payment provider, and a flaky one: it is slow, it fails, and sometimes it charges and its answer is lost.

It stands for a company elsewhere.  So its records are in a file of its own, which the shop never reads, and it
outlives every crash of the shop.  What it promises is what real providers promise: one idempotency key, one charge.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from examples.shop import settings

_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (id INTEGER PRIMARY KEY, key TEXT NOT NULL, order_id INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS attempts_by_key ON attempts (key);
CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, order_id INTEGER NOT NULL, amount INTEGER NOT NULL
) STRICT;
"""
_SLOW = 0.05  # this share of the calls takes ten times as long


class GatewayError(Exception):
    """The call failed. The customer may have been charged or not: send it again, with the same key, to find out."""


class Gateway:
    """A client of the fake provider, with the provider inside.

    `failures` is the share of calls that fail, half of them only after the charge.  `latency` is the longest an
    ordinary call takes, in seconds.
    """

    def __init__(self, records: Path, *, failures: float = 0.0, latency: float = 0.0) -> None:
        self._failures = failures
        self._latency = latency
        # A write takes some microseconds, so it is made right on the event loop. Without a flush it survives the
        # process, though not a power cut: enough for a fake.
        self._records = sqlite3.connect(records, isolation_level=None)
        self._records.execute("PRAGMA journal_mode = WAL")
        self._records.execute("PRAGMA synchronous = OFF")
        self._records.executescript(_SCHEMA)

    async def charge(self, key: str, *, order_id: int, amount: int) -> str:
        """Charge a customer once under `key` and return the charge's id, the same one for every repetition.

        Raises GatewayError.
        """
        luck = random.Random(f"{key}, attempt {self._note_attempt(key, order_id)}")
        failing = luck.random()
        if self._latency:
            await asyncio.sleep(luck.uniform(0, self._latency) * (10 if luck.random() < _SLOW else 1))
        if failing < self._failures / 2:
            msg = "503 Service Unavailable"
            raise GatewayError(msg)
        charge_id = self._charge_once(key, order_id, amount)
        if failing < self._failures:
            msg = "the connection broke before the answer came"
            raise GatewayError(msg)
        return charge_id

    def close(self) -> None:
        """Close the records."""
        self._records.close()

    def _note_attempt(self, key: str, order_id: int) -> int:
        self._records.execute("INSERT INTO attempts (key, order_id) VALUES (?, ?)", [key, order_id])
        count: int = self._records.execute("SELECT count(*) FROM attempts WHERE key = ?", [key]).fetchone()[0]
        return count

    def _charge_once(self, key: str, order_id: int, amount: int) -> str:
        self._records.execute(
            "INSERT INTO charges (key, order_id, amount) VALUES (?, ?, ?) ON CONFLICT (key) DO NOTHING",
            [key, order_id, amount],
        )
        (found,) = self._records.execute("SELECT id FROM charges WHERE key = ?", [key]).fetchone()
        return f"ch_{found}"


async def gateway() -> AsyncIterator[Gateway]:
    """Provide the gateway to actions: made when it is first used, closed when the app stops."""
    bank = Gateway(
        settings.GATEWAY_DB, failures=settings.GATEWAY_FAILURES, latency=settings.GATEWAY_LATENCY.total_seconds()
    )
    yield bank
    bank.close()


@dataclass(frozen=True, slots=True)
class Statement:
    """What the provider says about one order."""

    attempts: int
    charges: int
    amount: int


def read_statements(records: Path) -> dict[int, Statement]:
    """Return the provider's own view, by order: for an audit, never for the shop."""
    with closing(sqlite3.connect(records)) as connection:
        rows = connection.execute(
            """
            SELECT order_id, count(*),
                (SELECT count(*) FROM charges WHERE charges.order_id = attempts.order_id),
                (SELECT coalesce(sum(amount), 0) FROM charges WHERE charges.order_id = attempts.order_id)
            FROM attempts GROUP BY order_id
            """
        ).fetchall()
    return {order_id: Statement(attempts, charges, amount) for order_id, attempts, charges, amount in rows}
