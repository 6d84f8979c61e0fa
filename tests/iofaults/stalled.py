"""An app whose disk stalls: a sync does not come back until it is let go.

python -m tests.iofaults.stalled <folder>       in a process that has the shim; prints what was seen, as JSON
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvloop

from runtime import App, MutationCtx, Namespace, QueryCtx
from tests.shim import control

_PATIENCE_SECONDS = 20.0
stalled: Namespace[Any] = Namespace("stalled")


@stalled.mutation
async def put(ctx: MutationCtx[Any], *, n: int) -> int:
    """Write a row."""
    await ctx.db.execute("INSERT INTO rows VALUES (?)", [n])
    return n


@stalled.query
async def rows(ctx: QueryCtx[Any]) -> list[int]:
    """Read them all."""
    return [row[0] for row in await ctx.db.fetch_all("SELECT n FROM rows ORDER BY n")]


async def watch(folder: Path) -> dict[str, Any]:
    """Stall the disk under an app, look at it from all sides, and let it go on."""
    control.watch(folder)
    app: App[Any] = App(folder / "app.db", namespaces=[stalled])
    app.schema("CREATE TABLE rows (n INTEGER PRIMARY KEY)")
    async with app, asyncio.timeout(_PATIENCE_SECONDS):
        await app.call(put, n=1)
        control.hold_syncs(wait=True)
        try:
            waiting = [
                asyncio.create_task(app.call(put, n=2)),
                asyncio.create_task(app.scheduler.run_now(put.bind(n=3))),
            ]
            while not control.hold_syncs(wait=True):  # nobody waits for the stalled disk yet
                await asyncio.sleep(0)
            waiting += [asyncio.create_task(app.call(put, n=n)) for n in range(4, 8)]
            seen = [await app.call(rows) for _ in range(3)]  # the loop lives, and queries are answered
            answered = sum(task.done() for task in waiting)
        finally:
            control.hold_syncs(wait=False)  # or the app's end would wait for ever
        first, job, *later = await asyncio.gather(*waiting)
        ended = await app.scheduler.wait(str(job))
        after = await app.call(rows)
    return {"seen": seen, "answered": answered, "first": first, "later": later, "job": ended.state, "after": after}


def main() -> None:
    """Run it."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(watch(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
