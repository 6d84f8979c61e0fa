"""The shop, opened on the virtual clock: with a payment provider that fails as it is told, and over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

from examples.shop.gateway import Gateway, GatewayError, gateway
from examples.shop.main import api, app
from examples.shop.orders import place_order
from runtime.testing import Harness

START = datetime(2026, 1, 1, tzinfo=UTC)


class ScriptedGateway(Gateway):
    """A gateway whose first calls go wrong as the script says: before the charge, after it, or without an end."""

    def __init__(self, records: Path, *script: str) -> None:
        super().__init__(records)
        self._script: Iterator[str] = iter(script)
        self.hanging = asyncio.Event()

    async def charge(self, key: str, *, order_id: int, amount: int) -> str:
        step = next(self._script, "answer")
        if step == "fail":
            self._note_attempt(key, order_id)
            raise GatewayError(step)
        answer = await super().charge(key, order_id=order_id, amount=amount)
        if step == "lose the answer":
            raise GatewayError(step)
        if step == "hang":
            self.hanging.set()
            await asyncio.get_running_loop().create_future()
        return answer


@asynccontextmanager
async def open_shop(folder: Path, *script: str, start: datetime = START) -> AsyncIterator[Harness]:
    async with Harness(app, start=start) as shop:
        bank = ScriptedGateway(folder / "gateway.db", *script)
        shop.override(gateway, bank)
        try:
            yield shop
        finally:
            bank.close()


async def order_tea(shop: Harness) -> int:
    return await shop.call(place_order, email="ada@example.com", item="tea", quantity=2)


@asynccontextmanager
async def asgi_client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://shop") as http:
        yield http
