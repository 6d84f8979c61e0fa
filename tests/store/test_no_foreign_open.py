"""Trap T3: closing any descriptor of the database drops SQLite's POSIX locks, so nothing but SQLite may open it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WATCHED = """
import asyncio, json, os, sys
opened, log = [], []

def hook(event, args):
    if event == "sqlite3.connect":
        log.append("connect")
    if event == "open" and args and isinstance(args[0], (str, bytes, os.PathLike)):
        name = os.path.basename(os.fsdecode(args[0]))
        if name in ("app.db", "app.db-wal", "app.db-shm", "app.db-journal"):
            log.append(name)

sys.addaudithook(hook)
from runtime import App, Namespace

ns = Namespace("t")

@ns.mutation()
async def write(ctx, *, n: int) -> None:
    await ctx.db.execute("INSERT INTO t VALUES (?)", [n])
    await ctx.scheduler.run_now("t:act", {"n": n})

@ns.action()
async def act(ctx, *, n: int) -> int:
    return await ctx.run_query("t:read")

@ns.query()
async def read(ctx) -> int:
    return await ctx.db.fetch_value("SELECT count(*) FROM t")

async def life(path, n):
    app = App(path, namespaces=[ns])
    app.schema("CREATE TABLE t (x)")
    async with app:
        await asyncio.gather(*(app.call("t:write", {"n": n}) for _ in range(20)), *(app.call("t:read") for _ in range(20)))
        job_id = await app.scheduler.run_now("t:act", {"n": n})
        assert (await app.scheduler.wait(job_id)).result >= 20
        assert [job async for job in app.scheduler.list()]
        await app.scheduler.cancel(await app.scheduler.run_after(60, "t:write", {"n": n}))
        await app._running().store.reopen([])
        await app.call("t:write", {"n": n})

for n in range(2):
    asyncio.run(life(sys.argv[1], n))
before = log.index("connect")
open(sys.argv[1], "rb").close()
print(json.dumps([log[:before], [name for name in log[before:] if name != "connect"]]), flush=True)
"""


async def test_nothing_in_the_process_opens_the_database_but_sqlite(spawn: Any, db: Path) -> None:
    """Over two lives with turns, queries, actions, a reopening and checkpoints, Python opens the file once: to make it."""
    child = await spawn(WATCHED, db)
    made, opened = await child.says()
    assert made == ["app.db"], "the private file is made before SQLite has it"
    assert opened == ["app.db"], "the one open that this test makes itself, to show that the hook sees them"
