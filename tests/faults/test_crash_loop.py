"""A job that takes the process down each time is told from its neighbours, and ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runtime import App, MutationCtx, Namespace
from runtime.testing import Harness

ROOT = Path(__file__).parents[2]

CHILD = """
import asyncio, os, sys
from runtime import ActionCtx, App, MutationCtx

app = App(sys.argv[1])
ns = app.namespace("k")
app.schema("CREATE TABLE t (x)")

@ns.mutation
async def poison(ctx: MutationCtx) -> None:
    await ctx.db.execute("INSERT INTO t VALUES ('poison')")
    os._exit(9)

@ns.mutation
async def good(ctx: MutationCtx) -> None:
    await ctx.db.execute("INSERT INTO t VALUES ('good')")

async def main() -> None:
    async with app:
        if sys.argv[2] == "first":
            await app.scheduler.run_many([poison.bind(), good.bind()])
        async for job in app.scheduler.list(fn=good):
            await app.scheduler.wait(job.id)

asyncio.run(main())
"""


def test_K15_a_mutation_that_kills_the_process_is_failed_and_the_others_run(tmp_path: Path) -> None:
    """After DEATHS_MAX deaths it is failed: crash_loop, with no effect; the job behind it runs once."""
    db = tmp_path / "app.db"
    codes = [
        subprocess.run([sys.executable, "-c", CHILD, str(db), "first" if life == 0 else ""], cwd=ROOT, check=False,
                       capture_output=True, timeout=30).returncode
        for life in range(4)
    ]  # fmt: skip
    assert codes == [9, 9, 9, 0]

    async def look(h: Harness) -> tuple[dict[str, tuple[str, str | None]], list[str]]:
        jobs = {job.path: (job.state, job.cause) async for job in h.scheduler.list()}
        return jobs, await h.call("look:rows")

    looking = Namespace("look")

    @looking.query
    async def rows(ctx: MutationCtx) -> list[str]:
        return [row["x"] for row in await ctx.db.fetch_all("SELECT x FROM t")]

    app = App(db, namespaces=[looking])
    app.schema("CREATE TABLE t (x)")

    async def run() -> tuple[dict[str, tuple[str, str | None]], list[str]]:
        async with Harness(app, db=db) as h:
            return await look(h)

    import asyncio

    jobs, found = asyncio.run(run())
    assert jobs == {"k:poison": ("failed", "crash_loop"), "k:good": ("success", None)}
    assert found == ["good"]
