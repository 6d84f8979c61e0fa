"""A crowd of customers: places orders over HTTP, cancels some of them, and sends again whatever got no answer.

Some only fill a cart, and leave.

Runs as a process of its own.  It prints one line of JSON for each answer it got: that is the customers' record, which
the demo holds against the shop's books.  It ends when every customer has got every answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from examples.shop.orders import PRICES

_ORDERS_AT_ONCE = 24  # requests under way
_CANCELS_AT_ONCE = 8  # apart, so that a cancel does not wait behind the orders that pile up while the shop is down
_CANCELING = 0.2  # this share of the customers changes their mind
_LEAVING = 0.1  # for each order there is so much of a customer who fills a cart, and never orders


@dataclass
class Crowd:
    """The customers, and the connections they share."""

    to_order: Connections
    to_cancel: Connections
    orders: int
    per_second: float
    cancel_seconds: float  # how long the shop lets them change their mind
    seed: str
    resends: int = 0

    async def run(self) -> None:
        """Let every customer do their shopping, arriving at an even pace."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as shopping:
            for number in range(self.orders):
                await _sleep_until(began + number / self.per_second)
                shopping.create_task(self._shop(number))
        _tell({"resends": self.resends})

    async def _shop(self, number: int) -> None:
        key = f"{self.seed}-{number}"
        chance = random.Random(key)
        order = {
            "email": f"customer-{number}@example.com",
            "item": chance.choice(sorted(PRICES)),
            "quantity": chance.randint(1, 5),
        }
        if chance.random() < _LEAVING:
            cart = {"item": order["item"], "quantity": order["quantity"]}
            await self._send(self.to_order, f"/carts/visitor-{number}@example.com", cart, method="PUT")
            _tell({"carts": 1})
        placed = await self._send(self.to_order, "/orders", order, {"idempotency-key": key})
        _tell({"key": key, "order_id": placed["order_id"]})
        if chance.random() < _CANCELING:
            # Some in good time, some too late, and many within a moment of the timer itself.
            await asyncio.sleep(self.cancel_seconds * chance.choice([0.3, 0.97, 1.0, 1.2]))
            answer = await self._send(self.to_cancel, f"/orders/{placed['order_id']}/cancel")
            _tell({"order_id": placed["order_id"], "canceled": answer["canceled"]})

    async def _send(
        self,
        over: Connections,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
    ) -> Any:
        """Send a request until it is answered. That is safe: the shop knows an order's key, and cancels only once."""
        while True:
            async with over.one() as connection:
                try:
                    response = await connection.request(method, path, json=body, headers=headers)
                except httpx.TransportError:
                    response = None  # no answer: it may have been done, or not
            if response is not None and response.status_code < 500:
                response.raise_for_status()
                return response.json() if response.content else None
            self.resends += 1
            await asyncio.sleep(random.uniform(0.05, 0.2))


class Connections:
    """A number of connections, each a client of its own: one pool of many costs httpx more than the requests do."""

    def __init__(self, url: str, count: int) -> None:
        self._url = url
        self._count = count
        self._free: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Make the clients."""
        for _ in range(self._count):
            # Plain HTTP on this machine: no certificates, which take longer to load than a hundred orders to send.
            client = httpx.AsyncClient(base_url=self._url, timeout=5, trust_env=False, verify=False)  # noqa: S501
            self._free.put_nowait(await self._open.enter_async_context(client))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the clients."""
        await self._open.aclose()

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a connection, once there is a free one."""
        connection = await self._free.get()
        try:
            yield connection
        finally:
            self._free.put_nowait(connection)


async def _sleep_until(when: float) -> None:
    await asyncio.sleep(max(0.0, when - asyncio.get_running_loop().time()))


def _tell(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), flush=True)


async def main(arguments: Sequence[str] | None = None) -> None:
    """Run the crowd described on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--per-second", type=float, default=50)
    parser.add_argument("--cancel-seconds", type=float, default=10, help="the shop's SHOP_CANCEL_SECONDS")
    parser.add_argument("--seed", default="crowd", help="prefix of the customers' keys: another one for another crowd")
    given = parser.parse_args(arguments)
    to_order, to_cancel = Connections(given.url, _ORDERS_AT_ONCE), Connections(given.url, _CANCELS_AT_ONCE)
    async with to_order, to_cancel:
        await Crowd(to_order, to_cancel, given.orders, given.per_second, given.cancel_seconds, given.seed).run()


if __name__ == "__main__":
    asyncio.run(main())
