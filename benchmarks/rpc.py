"""What does a public mutation over RPC cost beside the same SQL in a bare FastAPI route?

Four servers, each one process of uvicorn on uvloop, each inserting one row per request, durably (WAL and
synchronous=FULL): `rpc` is `app.asgi()`; `route` is a FastAPI route that awaits `app.call(…)`; `bare` is a FastAPI
route with aiosqlite, one commit per request; `grouped` is a FastAPI route before a writer that commits whatever waits
in one transaction.  wrk asks each in turn, the order flips every round.  Beside the rates: the CPU time of the server
per request, which hardly depends on the disk.  Needs wrk (Debian: apt-get install wrk).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import aiosqlite
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.measure import Setup, facts
from runtime import App, Http, MutationCtx, Namespace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SIDES: Final = ("rpc", "route", "bare", "grouped")
CLIENTS: Final = (1, 64)
SCHEMA: Final = "CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, name TEXT NOT NULL)"
INSERT: Final = "INSERT INTO rows (n, name) VALUES (?, ?)"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_ASK: Final = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"n": 7, "name": "customer-000042"}'
"""


# ------------------------------------------------------------------ the four servers


class Row(BaseModel):
    """What a client sends."""

    n: int
    name: str


bench = Namespace("bench")


@bench.mutation(access="public")
async def insert(ctx: MutationCtx, *, n: int, name: str) -> int | None:
    """Write one row."""
    return (await ctx.db.execute(INSERT, (n, name))).lastrowid


def _ours(db: str) -> App[Any]:
    app = App[Any](db, namespaces=[bench])
    app.schema(SCHEMA)
    return app


def make_rpc(db: str) -> Any:
    return _ours(db).asgi(http=Http())


def make_route(db: str) -> Any:
    app = _ours(db)
    api = FastAPI(lifespan=app.lifespan)

    @api.post("/insert")
    async def post(row: Row) -> dict[str, Any]:
        return {"result": await app.call(insert, n=row.n, name=row.name)}

    return api


def make_bare(db: str) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with aiosqlite.connect(db, isolation_level=None) as api.state.db:
            await _prepare(api.state.db)
            api.state.lock = asyncio.Lock()  # one connection: its transactions take turns
            yield

    api = FastAPI(lifespan=lifespan)

    @api.post("/insert")
    async def post(row: Row) -> dict[str, Any]:
        async with api.state.lock:
            await api.state.db.execute("BEGIN IMMEDIATE")
            done = await api.state.db.execute(INSERT, (row.n, row.name))
            await api.state.db.execute("COMMIT")
        return {"result": done.lastrowid}

    return api


def make_grouped(db: str) -> Any:
    waiting: list[tuple[tuple[int, str], asyncio.Future[int | None]]] = []
    stirred = asyncio.Event()

    def commit(raw: sqlite3.Connection, rows: list[tuple[int, str]]) -> list[int | None]:
        raw.execute("BEGIN IMMEDIATE")
        ids = [raw.execute(INSERT, row).lastrowid for row in rows]
        raw.execute("COMMIT")
        return ids

    async def write(raw: sqlite3.Connection) -> None:
        while True:
            await stirred.wait()
            stirred.clear()
            batch, waiting[:] = list(waiting), []
            for (_, future), row_id in zip(
                batch, await asyncio.to_thread(commit, raw, [row for row, _ in batch]), strict=True
            ):
                future.set_result(row_id)
            if waiting:
                stirred.set()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with contextlib.closing(sqlite3.connect(db, isolation_level=None, check_same_thread=False)) as raw:
            for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", SCHEMA):
                raw.execute(statement)
            writer = asyncio.ensure_future(write(raw))
            yield
            writer.cancel()

    api = FastAPI(lifespan=lifespan)

    @api.post("/insert")
    async def post(row: Row) -> dict[str, Any]:
        future = asyncio.get_running_loop().create_future()
        waiting.append(((row.n, row.name), future))
        stirred.set()
        return {"result": await future}

    return api


async def _prepare(raw: Any) -> None:
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", SCHEMA):
        await raw.execute(statement)


def serve(side: str, db: str, fd: int) -> None:
    """Serve one side on an inherited socket, until SIGTERM."""
    make = {"rpc": make_rpc, "route": make_route, "bare": make_bare, "grouped": make_grouped}[side]
    config = uvicorn.Config(make(db), loop="uvloop", log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


# ------------------------------------------------------------------ measuring


class Server(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str
    db: Path

    def cpu_s(self) -> float:
        """Return the CPU time the process has used, all its threads together."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


@dataclass
class Side:
    """What was measured of one side, round by round."""

    per_second: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)


@contextlib.contextmanager
def serving(side: str, folder: Path) -> Iterator[Server]:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(512)
        db = folder / f"{side}.db"
        command = [sys.executable, "-m", "benchmarks.rpc", "--serve", side, "--db", str(db), "--fd", str(door.fileno())]
        process = subprocess.Popen(command, pass_fds=[door.fileno()])
        path = "/rpc/bench:insert" if side == "rpc" else "/insert"
        url = f"http://127.0.0.1:{door.getsockname()[1]}{path}"
    try:
        yield Server(process, url, db)
    finally:
        process.terminate()
        process.wait()


def ask(server: Server, wrk: str, script: Path, clients: int, seconds: float, into: Side | None) -> int:
    """Let wrk ask for a while; return how many requests were answered."""
    cpu_s = server.cpu_s()
    command = [
        wrk,
        "-t1",
        f"-c{clients}",
        f"-d{max(round(seconds), 1)}s",
        "--timeout",
        "60s",
        "--latency",
        "-s",
        str(script),
        server.url,
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"the server did not answer every request well:\n{said}")
    total = int(re.findall(r"(\d+) requests in", said)[0])
    if into is not None:
        into.per_second.append(float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0]))
        into.cpu_us.append((server.cpu_s() - cpu_s) / max(total, 1) * 1e6)
        value, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", said)[0]
        into.p99_ms.append(float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit])
    return total


def measure(folder: Path, wrk: str, rounds: int, seconds: float) -> dict[int, dict[str, Side]]:
    """Return what each side does with one client, and with many."""
    script = folder / "ask.lua"
    script.write_text(_ASK, "utf-8")
    found = {clients: {side: Side() for side in SIDES} for clients in CLIENTS}
    answered = dict.fromkeys(SIDES, 0)
    with contextlib.ExitStack() as stack:
        servers = {side: stack.enter_context(serving(side, folder)) for side in SIDES}
        for side, server in servers.items():
            answered[side] += ask(server, wrk, script, 4, 1, None)  # does not count
        for clients in CLIENTS:
            for number in range(rounds):
                for side in SIDES if number % 2 == 0 else reversed(SIDES):
                    answered[side] += ask(servers[side], wrk, script, clients, seconds, found[clients][side])
    for side, server in servers.items():
        with contextlib.closing(sqlite3.connect(server.db)) as raw:
            (rows,) = raw.execute("SELECT count(*) FROM rows").fetchone()
        if rows < answered[side]:
            raise SystemExit(f"{side} answered {answered[side]} requests and kept {rows} rows")
    return found


def table(found: dict[int, dict[str, Side]]) -> Iterator[str]:
    """Yield the lines of the table."""
    heads = ("clients", "side", "requests/s", "p99 ms", "CPU us/request", "rate / bare", "rate / grouped")
    yield _line(heads)
    for clients, sides in found.items():
        for name, side in sides.items():
            rate, p99, cpu = (statistics.median(each) for each in (side.per_second, side.p99_ms, side.cpu_us))
            bare, grouped = (_ratio(side, sides[beside]) for beside in ("bare", "grouped"))
            yield _line((str(clients), name, f"{rate:,.0f}", f"{p99:.2f}", f"{cpu:.0f}", bare, grouped))


def _line(cells: tuple[str, ...]) -> str:
    return "  ".join(cell.rjust(14) for cell in cells)


def _ratio(side: Side, beside: Side) -> str:
    pairs = zip(side.per_second, beside.per_second, strict=True)
    return f"{statistics.median(mine / max(other, 1) for mine, other in pairs):.2f}"  # a stalled disk gives 0


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--db", help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(chosen.serve, chosen.db, chosen.fd)
        return
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("this needs wrk, a load generator for HTTP (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory(dir=chosen.folder or Path.cwd(), prefix=".bench-rpc-") as folder:
        began = time.monotonic()
        told = facts(Setup(Path(folder), chosen.rounds, quick=False, synchronous="FULL", loop="uvloop"))
        found = measure(Path(folder), wrk, chosen.rounds, chosen.seconds)
    if chosen.json:
        plain = {str(clients): {name: vars(side) for name, side in sides.items()} for clients, sides in found.items()}
        print(json.dumps({"facts": told, "found": plain}))
        return
    print(", ".join(f"{name} {value}" for name, value in told.items()))
    print(*table(found), sep="\n")
    print(f"{time.monotonic() - began:.0f} s; medians of {chosen.rounds} rounds")


if __name__ == "__main__":
    main()
