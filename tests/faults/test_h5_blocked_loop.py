"""Row H5: a function blocks the event loop. Others are late, and none is lost or doubled."""

from __future__ import annotations

import time
from pathlib import Path

from runtime import ActionCtx, App, MutationCtx, Namespace

ns = Namespace("h5")


@ns.action
async def block(ctx: ActionCtx, *, seconds: float) -> None:
    """Compute, as a function that forgot about the loop does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


@ns.mutation
async def add(ctx: MutationCtx, *, n: int) -> None:
    await ctx.db.execute("INSERT INTO added VALUES (?)", [n])


@ns.action
async def start(ctx: ActionCtx, *, n: int) -> None:
    await ctx.run_mutation(add, n=n)


async def test_h5_a_blocked_loop_makes_jobs_late_and_nothing_worse(tmp_path: Path) -> None:
    """Every job that fell due while the loop stood still runs once, in its order, when it goes on."""
    app = App(tmp_path / "app.db", namespaces=[ns])
    app.schema("CREATE TABLE added (n INTEGER)")
    async with app:
        blocking = [await app.scheduler.run_now(block.bind(seconds=0.3)) for _ in range(3)]
        due = [await app.scheduler.run_after(0.05 + n / 1000, add.bind(n=n)) for n in range(50)]
        actions = [await app.scheduler.run_after(0.05 + n / 1000, start.bind(n=1000 + n)) for n in range(50)]
        jobs = [await app.scheduler.wait(job_id, timeout=30) for job_id in [*blocking, *due, *actions]]
        assert {(job.state, job.attempt) for job in jobs} == {("success", 1)}
        assert all(job.started_at is not None and job.started_at >= job.scheduled_at for job in jobs)
        rows = await app.call("h5:rows")
    assert sorted(rows) == [*range(50), *range(1000, 1050)]
    assert [n for n in rows if n < 1000] == list(range(50))


@ns.query
async def rows(ctx):  # type: ignore[no-untyped-def]
    return [row["n"] for row in await ctx.db.fetch_all("SELECT n FROM added ORDER BY rowid")]
