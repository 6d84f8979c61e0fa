"""Clients of the server that is to be stopped: each sends one call after the other, and notes what it was told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.crash.asking import new_jobs
from tests.crash.functions import wall_us
from tests.crash.history import Answer, Ask, History, plain
from tests.crash.workload import Workload


class Crowd:
    """A number of clients on connections of their own, until the server has no ear for them any more."""

    def __init__(self, history: History, targets: list[str]) -> None:
        self._history = history
        self._targets = targets
        self._answered = asyncio.Condition()
        self.answers = 0
        self.ended = False

    async def run(self, port: int, resend: Iterable[Ask], workloads: Iterable[Workload], calls: int) -> None:
        """Send everything; return when it is answered, or the server is gone."""
        streams = [_drawn(workload, calls) for workload in workloads]
        try:
            await asyncio.gather(*(self._client(port, stream) for stream in (iter(list(resend)), *streams)))
        finally:
            self.ended = True
            async with self._answered:
                self._answered.notify_all()

    async def answered(self, count: int) -> None:
        """Wait for this many answers in all, or for the end of the crowd."""
        async with self._answered:
            await self._answered.wait_for(lambda: self.answers >= count or self.ended)

    async def _client(self, port: int, asks: Iterator[Ask]) -> None:
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for ask in asks:
                self._history.take(["ask", plain(ask), wall_us()])
                given = await _post(reader, writer, plain(ask))
                self._history.take(["answer", ask.op, given["verdict"], given["value"], given["leaked"], wall_us()])
                self._targets.extend(new_jobs(ask, Answer(given["verdict"], given["value"])))
                async with self._answered:
                    self.answers += 1
                    self._answered.notify_all()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # no answer: it may have been done, or not
        finally:
            if writer is not None:
                writer.close()


def _drawn(workload: Workload, calls: int) -> Iterator[Ask]:
    for _ in range(calls):
        yield from workload.next()


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict[str, Any]) -> dict[str, Any]:
    content = json.dumps(body).encode()
    head = f"POST /ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    answered = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.split(b": ", 1) for line in answered.split(b"\r\n")[1:-2])
    given: dict[str, Any] = json.loads(await reader.readexactly(int(headers[b"content-length"])))
    return given
