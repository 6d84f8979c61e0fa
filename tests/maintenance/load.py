"""An app that is busy all the time, and what must hold in every copy of its file.

    python -m tests.maintenance.load <folder> <life>    runs it and copies its file again and again, until killed

Workers call `put` one after the other, each with the next number.  A `put` writes one half of its effect, schedules a
`follow` and writes the other half; some of what is scheduled fails on purpose; one action runs all the time.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from actor_scheduler import codec
from actor_scheduler.ids import format_id
from actor_scheduler.store.sqlite.backup import backup
from runtime import ActionCtx, App, FunctionError, MutationCtx, Namespace

SCHEMA: Final = """
CREATE TABLE ledger (n INTEGER PRIMARY KEY, who TEXT NOT NULL, number INTEGER NOT NULL, job TEXT) STRICT;
CREATE TABLE mirror (n INTEGER PRIMARY KEY REFERENCES ledger, who TEXT NOT NULL, padding BLOB NOT NULL) STRICT;
"""
WORKERS: Final = 4
_PADDING: Final = 600  # bytes, so that a copy takes many steps
_ORDER: Final = {"pending": 0, "in_progress": 1, "success": 2, "failed": 2, "canceled": 2}

load: Namespace[Any] = Namespace("load")


async def _write(ctx: MutationCtx[Any], who: str, number: int) -> None:
    job = getattr(ctx.invoker, "job_id", None)
    sql = "INSERT INTO ledger (who, number, job) VALUES (?, ?, ?)"
    n = (await ctx.db.execute(sql, [who, number, job])).lastrowid
    if who == "nobody":
        raise FunctionError("PLANNED", "told to fail half-way")
    await ctx.db.execute("INSERT INTO mirror VALUES (?, ?, ?)", [n, who, bytes(_PADDING)])


@load.mutation
async def put(ctx: MutationCtx[Any], *, who: str, number: int) -> None:
    await ctx.scheduler.run_now(follow.bind(who=who, number=number))
    await _write(ctx, who, number)


@load.mutation
async def follow(ctx: MutationCtx[Any], *, who: str, number: int) -> int:
    await _write(ctx, f"after {who}", number)
    if number % 5 == 0:
        await ctx.scheduler.run_now(fails.bind(number=number))
        await ctx.scheduler.run_now(act.bind(who=who, number=number))
    return number


@load.mutation
async def fails(ctx: MutationCtx[Any], *, number: int) -> None:
    await _write(ctx, "nobody", number)


@load.action
async def act(ctx: ActionCtx[Any], *, who: str, number: int) -> str:
    await ctx.run_mutation(write, who=f"act {who}", number=number)
    return who


@load.mutation
async def write(ctx: MutationCtx[Any], *, who: str, number: int) -> None:
    await _write(ctx, who, number)


@load.action
async def stand(ctx: ActionCtx[Any]) -> None:
    await asyncio.get_running_loop().create_future()


def make_app(path: Path) -> App[Any]:
    """Make the app. Without a flush at each commit: no test here cuts the power."""
    app: App[Any] = App(path, namespaces=[load], synchronous="NORMAL", grace=0)
    app.schema(SCHEMA)
    return app


class Load:
    """Workers that go on until they are stopped; `acked` is the last number each was told is done."""

    def __init__(self, app: App[Any], life: str = "") -> None:
        self._app = app
        self._life = life
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self.acked: dict[str, int] = {}
        self.ids: list[str] = []

    async def start(self) -> None:
        """Start an action that never ends, and the workers."""
        self.ids.append(await self._app.scheduler.run_now(stand.bind()))
        self._tasks = [asyncio.create_task(self._work(f"{self._life}w{at}")) for at in range(WORKERS)]

    async def _work(self, who: str) -> None:
        for number in itertools.count(1):
            if self._stopping:
                return
            await self._app.call(put, who=who, number=number)
            self.acked[who] = number
            if number % 7 == 0:
                self.ids.append(await self._app.scheduler.run_now(follow.bind(who=f"{who}!", number=number)))

    async def passes(self, numbers: int) -> None:
        """Return once every worker has gone on by so many numbers."""
        before = dict(self.acked)
        while not all(self.acked.get(f"{self._life}w{at}", 0) >= before.get(f"{self._life}w{at}", 0) + numbers
                      for at in range(WORKERS)):  # fmt: skip
            assert not any(task.done() for task in self._tasks), "a worker ended"
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Let every worker end with its call."""
        self._stopping = True
        await asyncio.gather(*self._tasks)


async def finish(app: App[Any]) -> None:
    """Return when every job but those that never end has ended."""
    while waiting := [job.id async for job in app.scheduler.list(state="pending")]:
        for job_id in waiting:
            await app.scheduler.wait(job_id, timeout=30)
    async for job in app.scheduler.list(fn=act, state="in_progress"):
        await app.scheduler.wait(job.id, timeout=30)


# ------------------------------------------------------------------ what a file holds


@dataclass
class Seen:
    """What stands in one file."""

    ledger: list[tuple[int, str, int, str | None]] = field(default_factory=list)
    mirror: list[tuple[int, str]] = field(default_factory=list)
    jobs: dict[str, tuple[str, str, Any]] = field(default_factory=dict)  # path, state, arguments
    errors: list[str] = field(default_factory=list)


def look(path: Path) -> Seen:
    """Read a file that nobody uses."""
    with closing(sqlite3.connect(path)) as file:
        return Seen(
            file.execute("SELECT n, who, number, job FROM ledger ORDER BY n").fetchall(),
            file.execute("SELECT n, who FROM mirror ORDER BY n").fetchall(),
            {
                format_id(seq, nonce): (name, state, codec.decode(args))
                for seq, nonce, name, state, args in file.execute(
                    "SELECT seq, nonce, path, state, args FROM _scheduler_jobs"
                )
            },
            [text for (text,) in file.execute("PRAGMA integrity_check") if text != "ok"]
            + [str(row) for row in file.execute("PRAGMA foreign_key_check")],
        )


def check_whole(seen: Seen) -> None:
    """No mutation is there by half, and a scheduled one's effect and its success are there together."""
    assert seen.errors == []
    assert [row[0] for row in seen.ledger] == list(range(1, len(seen.ledger) + 1)), "a gap, or a row of a rolled-back"
    assert [row[:2] for row in seen.ledger] == seen.mirror, "one half of a mutation without the other"
    effects = Counter(job for *_, job in seen.ledger if job is not None)
    for job_id, (path, state, _) in seen.jobs.items():
        if path in ("load:follow", "load:fails"):
            assert effects[job_id] == (state == "success"), (job_id, path, state)
    assert effects.keys() <= seen.jobs.keys(), "an effect of a job that is not there"
    lives = Counter((who, number) for _, who, number, job in seen.ledger if job is None and not who.startswith("act "))
    follows = Counter((args["who"], args["number"]) for path, _, args in seen.jobs.values() if path == "load:follow")
    assert all(count == 1 for count in (*lives.values(), *follows.values()))
    direct = {key for key in follows if key[0].endswith("!")}
    assert follows.keys() - direct == lives.keys(), "a put without what it scheduled, or the other way round"
    for who in {who for who, _ in lives}:
        numbers = sorted(number for name, number in lives if name == who)
        assert numbers == list(range(1, len(numbers) + 1))


def check_prefix(copy: Seen, final: Seen, acked: Mapping[str, int], ids: list[str]) -> None:
    """The copy is what the file was at one moment: not before what was acknowledged, and on the way to what it became."""
    check_whole(copy)
    assert copy.ledger == final.ledger[: len(copy.ledger)]
    for who, number in acked.items():
        assert sum(row[1] == who for row in copy.ledger) >= number, f"{who} was told of {number}"
    assert copy.jobs.keys() >= set(ids), "an acknowledged job is not in the copy"
    for job_id, (path, state, args) in copy.jobs.items():
        later = final.jobs[job_id]
        assert (path, args) == (later[0], later[2])
        assert _ORDER[state] < _ORDER[later[1]] or state == later[1], (job_id, state, later[1])


async def main(folder: Path, life: str) -> None:
    """Work and copy, until killed; say so at each step of each copy."""

    def told() -> bool:
        print("step", flush=True)
        return False

    app = make_app(folder / "app.db")
    async with app:
        busy = Load(app, life)
        await busy.start()
        await busy.passes(3)
        for number in itertools.count():
            target = folder / f"copy-{number % 2}.db"
            await asyncio.to_thread(backup, folder / "app.db", target, overwrite=True, stop=told, step_pages=16)
            print("whole", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
