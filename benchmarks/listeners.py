"""What do 200 listeners of live events get, and what do they cost the jobs?

A real server on loopback (uvicorn, in the app's own process), and the clients of its event stream in another one.
First a steady load: how long after its moment the end of a job is read by a client, and how many events were dropped.
Then as many due mutations as go: jobs a second with listeners, beside the same without, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import socket
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from benchmarks.measure import Rate, Result, Setup, Stopwatch, alternate, run
from benchmarks.sides import arguments, insert, ours
from runtime import Http, Secrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runtime import App

_LISTENERS: Final = 200
_RATE: Final = 100.0  # jobs a second of the steady load; each is two events
_SECONDS: Final = 10.0
_BURST: Final = 4_000
_KEYS: Final = ("benchmarks-Xq7Lm2Vn9Zt4Ry6Wc8Pb3Kd5", "benchmarks-Fh4Jk8Sa2Gw6Ue1Io5Tz9Ny3")  # 100 may listen with one
_READERS: Final = 10  # clients that read what they get; the others only count it, or two processors would not do


# ------------------------------------------------------------ the clients' process


class Client:
    """One listener."""

    def __init__(self, number: int) -> None:
        self._reads = number < _READERS
        self._key = _KEYS[number % len(_KEYS)]
        self.delays_ms: list[float] = []
        self.jobs = 0
        self.dropped = 0
        self.ready = asyncio.Event()

    async def run(self, port: int) -> None:
        """Listen until canceled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        writer.write(
            f"GET /admin/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._key}\r\n\r\n".encode()
        )
        try:
            left = b""
            while data := await reader.read(1 << 16):
                self.ready.set()
                whole, _, left = (left + data).rpartition(b"\n\n")
                self.jobs += whole.count(b"\nevent: job\n")
                self.dropped += sum(map(int, re.findall(rb'"dropped":(\d+)', whole)))
                for at in re.findall(rb'"state":"success".*"at":"([^"]+)"', whole) if self._reads else ():
                    self.delays_ms.append(
                        (datetime.now(UTC) - datetime.fromisoformat(at.decode())).total_seconds() * 1e3
                    )
        finally:
            writer.close()


async def _clients(port: int, count: int) -> None:
    """Do what is said on standard input, a word a line, and answer each with a line: listen, leave, end."""
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    clients: list[Client] = []
    tasks: list[asyncio.Task[None]] = []
    while word := (await commands.readline()).decode().strip():
        answer: dict[str, Any] = {}
        if word == "listen":
            clients = [Client(number) for number in range(count)]
            tasks = [asyncio.create_task(client.run(port)) for client in clients]
            await asyncio.gather(*(client.ready.wait() for client in clients))
        elif word == "leave":
            await asyncio.sleep(1.0)  # what is on its way
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            answer = {
                "delays_ms": [delay for client in clients for delay in client.delays_ms],
                "jobs": [client.jobs for client in clients],
                "dropped": [client.dropped for client in clients],
            }
        print(json.dumps(answer), flush=True)


# ------------------------------------------------------------ the server's process


@contextlib.asynccontextmanager
async def _served(app: App[Any], count: int) -> AsyncIterator[Listeners]:
    """Serve an app that runs, with the clients' process beside it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(512)
    port = listener.getsockname()[1]
    surface = app.asgi(http=Http(read=Secrets(*_KEYS)))
    server = uvicorn.Server(uvicorn.Config(surface, lifespan="off", log_level="error"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    command = [sys.executable, "-m", "benchmarks.listeners", "--clients", str(port), "--listeners", str(count)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24
    )
    try:
        yield Listeners(process)
    finally:
        process.kill()
        await process.wait()
        server.should_exit = True
        await serving


class Listeners:
    """The clients, at the other end of a pipe."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def say(self, word: str) -> dict[str, Any]:
        """Say a word, and return the answer to it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n".encode())
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(self._process.stdout.readline(), 120))
        return answer


def measure(setup: Setup) -> list[Result]:
    """Measure the steady load, then the throughput."""
    return setup.run(_measure(setup))


async def _measure(setup: Setup, count: int = _LISTENERS) -> list[Result]:
    count = max(count // 10, 5) if setup.quick else count
    async with ours(setup.folder, synchronous=setup.synchronous) as app, _served(app, count) as listeners:
        seconds = _SECONDS / 10 if setup.quick else _SECONDS
        steady = await _steady(app, listeners, seconds)

        async def with_them() -> Rate:
            await listeners.say("listen")
            rate = await _burst(app, setup.count(_BURST))
            await listeners.say("leave")
            return rate

        rates = await alternate(with_them, lambda: _burst(app, setup.count(_BURST)), setup.rounds)
    one = Result.of_rates(f"due mutation, {count} listeners", "jobs/s", rates, "")
    one.reference_is = "no listener"
    delays = sorted(steady["delays_ms"])
    told = f"{count} listeners, {_RATE:g} jobs/s"
    expected = 2 * round(_RATE * seconds) * count
    return [
        Result(f"{told}: end of a job until read, p50", "ms", [statistics.median(delays)]),
        Result(f"{told}: end of a job until read, p99", "ms", [delays[int(len(delays) * 0.99)]]),
        Result(f"{told}: events read", "share", [sum(steady["jobs"]) / expected], goal="1"),
        Result(f"{told}: events dropped", "in all", [float(sum(steady["dropped"]))], goal="0"),
        one,
    ]


async def _steady(app: App[Any], listeners: Listeners, seconds: float) -> dict[str, Any]:
    await listeners.say("listen")
    began = time.time()
    await app.scheduler.run_many(
        insert.bind(**arguments(n)).at(began + 1.0 + n / _RATE) for n in range(round(_RATE * seconds))
    )
    await asyncio.sleep(seconds + 1.0 - (time.time() - began))
    return await listeners.say("leave")


async def _burst(app: App[Any], count: int) -> Rate:
    due = time.time() + 0.5 + count / 8_000
    ids = await app.scheduler.run_many(insert.bind(**arguments(n)).at(due) for n in range(count))
    await asyncio.sleep(max(due - time.time() - 0.05, 0))
    watch = Stopwatch()
    await asyncio.wait_for(app.scheduler.wait(ids[-1]), 60)
    return watch.rate(count, time.time() - due)


if __name__ == "__main__":
    if "--clients" in sys.argv:
        options = argparse.ArgumentParser()
        options.add_argument("--clients", type=int)
        options.add_argument("--listeners", type=int)
        chosen = options.parse_args()
        asyncio.run(_clients(chosen.clients, chosen.listeners))
    else:
        run(__doc__ or "", [measure])
