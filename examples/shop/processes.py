"""The demo's two child processes: the shop, to be killed and started again, and the crowd that sends it orders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx

ROOT: Final = Path(__file__).parents[2]
_LOG_LINES: Final = 30


class DemoError(Exception):
    """The demo itself can't go on."""


class Shop:
    """The shop under uvicorn, on one port for as long as the demo lasts.

    `down` are the spans, in microseconds since the epoch, from each kill until the shop answered again; `opened` is
    the one from its very first start until it answered.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.url: Final = f"http://127.0.0.1:{_free_port()}"
        self.http: Final = httpx.AsyncClient(base_url=self.url, timeout=10, trust_env=False)
        self.kills = 0
        self.down: list[tuple[int, int]] = []
        self.opened: tuple[int, int] | None = None
        self.crashed: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._environment: Final = {**os.environ, "SHOP_DB": str(folder / "shop.db"), **settings}
        self._log: Final = folder / "shop.log"
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._killed_at_us: int | None = None
        self._first_start_us: Final = time.time_ns() // 1_000

    async def start(self) -> None:
        """Start the process; it is not ready yet."""
        port = self.url.rpartition(":")[2]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "uvicorn", "examples.shop.main:api", "--host", "127.0.0.1", "--port", port,
                "--loop", "uvloop", "--workers", "1", "--log-level", "warning",
                cwd=ROOT, env=self._environment, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal is for the demo, which then ends the shop
            )  # fmt: skip
        self._watching = asyncio.create_task(self._watch(self._process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        self.crashed.set_exception(DemoError(f"the shop ended by itself, with code {code}:\n{self.log_tail()}"))

    async def ready(self) -> None:
        """Wait until the shop answers."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await self.http.get("/health")).is_success:
                    break
            await asyncio.sleep(0.02)
        if self.opened is None:
            self.opened = self._first_start_us, time.time_ns() // 1_000
        if self._killed_at_us is not None:
            self.down.append((self._killed_at_us, time.time_ns() // 1_000))
            self._killed_at_us = None

    async def kill(self) -> None:
        """End the shop with SIGKILL: it gets no chance to tidy anything up."""
        if self._killed_at_us is None:  # else it had not come back yet since the last kill
            self._killed_at_us = time.time_ns() // 1_000
        self.kills += 1
        await self._end(grace_seconds=0)

    async def close(self, grace_seconds: float) -> None:
        """Stop the shop as a deploy does, or by force when its grace is over."""
        await self.http.aclose()
        await self._end(grace_seconds)
        if not self.crashed.cancel():
            self.crashed.exception()  # told already, or overtaken by another error

    async def _end(self, grace_seconds: float) -> None:
        process, self._process = self._process, None
        if self._watching is not None:
            self._watching.cancel()
        if process is not None:
            await end(process, grace_seconds)

    async def get(self, path: str) -> Any:
        """Return what the shop says under this path."""
        try:
            response = await self.http.get(path)
            response.raise_for_status()
        except httpx.HTTPError as error:
            msg = f"GET {path}: {error!r}. The shop's log ends with:\n{self.log_tail()}"
            raise DemoError(msg) from error
        return response.json()

    def log_tail(self) -> str:
        """Return the last lines the shop logged."""
        with contextlib.suppress(OSError):
            return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-_LOG_LINES:])
        return ""


class Customers:
    """The crowd, and the record of every answer it got."""

    def __init__(self) -> None:
        self.orders: dict[str, int] = {}  # the order each key stands for
        self.canceled: dict[int, bool] = {}  # what the customer was told: in time, or too late
        self.carts = 0
        self.resends = 0
        self.ended = False
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def start(self, *arguments: str) -> None:
        """Start the process, with the command line of `load.py`."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "examples.shop.load", *arguments,
            cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._note(json.loads(line))
            self._news.set()
        self.ended = True
        self._news.set()

    def _note(self, line: Mapping[str, Any]) -> None:
        match line:
            case {"key": key, "order_id": order_id}:
                self.orders[key] = order_id
            case {"order_id": order_id, "canceled": canceled}:
                self.canceled[order_id] = canceled
            case {"carts": carts}:
                self.carts += carts
            case {"resends": resends}:
                self.resends = resends

    async def placed(self, count: int) -> None:
        """Wait until so many orders were acknowledged, or the crowd has gone home."""
        while len(self.orders) < count and not self.ended:
            self._news.clear()
            await self._news.wait()

    async def finished(self) -> None:
        """Wait until every customer got every answer. Raises DemoError if the crowd could not go on."""
        assert self._process is not None
        assert self._reading is not None
        await self._reading
        if await self._process.wait() != 0:
            msg = "the load generator failed: its own message is above"
            raise DemoError(msg)

    async def close(self) -> None:
        """End the process, if it still runs."""
        if self._process is not None:
            await end(self._process, grace_seconds=0)
        if self._reading is not None:
            await asyncio.wait([self._reading])


async def end(process: asyncio.subprocess.Process, grace_seconds: float) -> None:
    """End a process, politely at first if there is a grace, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        if grace_seconds > 0:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), grace_seconds)
                return
        process.kill()
    await process.wait()


def _free_port() -> int:
    """Return a free loopback port, from below those that are given to outgoing connections.

    The port must stay free while the shop is down, and a customer's own connection could take one of those.
    """
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    msg = "no free port on 127.0.0.1"
    raise DemoError(msg)
