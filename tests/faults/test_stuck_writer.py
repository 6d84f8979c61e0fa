"""A mutation whose Python never returns can't be stopped; it is noticed, named, and nobody waits behind it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from runtime import App, MutationCtx, WriterStuck

ROOT = Path(__file__).parents[2]

CHILD = """
import asyncio, sys, threading
from runtime import App, MutationCtx

app = App(sys.argv[1], exit_when_stuck=sys.argv[2] == "exit", grace=0)
app._stuck_seconds = 0.05
ns = app.namespace("s")

@ns.mutation
async def forever(ctx: MutationCtx) -> None:
    print("in", flush=True)
    threading.Event().wait()

async def main() -> None:
    async with app:
        call = asyncio.ensure_future(app.call(forever))
        while app.unready_reason is None:
            await asyncio.wait([call], timeout=0.02)

asyncio.run(main())
print("out", flush=True)
"""


async def test_4_a_mutation_that_never_returns_is_noticed_and_refused_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its stack is logged, new writes get WriterStuck, readiness says why; when it returns, all goes on."""
    noticed, let_go = asyncio.Event(), threading.Event()
    app: App[Any] = App(tmp_path / "app.db")
    app._stuck_seconds = 0.05
    app._on_stuck = noticed.set
    ns = app.namespace("s")
    app.schema("CREATE TABLE t (x)")

    @ns.mutation
    async def hold(ctx: MutationCtx) -> str:
        await ctx.db.execute("INSERT INTO t VALUES (1)")
        let_go.wait()
        return "went on"

    @ns.mutation
    async def put(ctx: MutationCtx) -> int:
        return int(await ctx.db.fetch_value("SELECT count(*) FROM t"))

    async with app:
        holding = asyncio.ensure_future(app.call(hold))
        await noticed.wait()
        assert app.unready_reason is not None
        assert "the writer has been busy" in app.unready_reason
        assert "let_go.wait()" in caplog.text
        with pytest.raises(WriterStuck):
            await app.call(put)
        with pytest.raises(WriterStuck):
            await app.scheduler.run_now("s:put")
        let_go.set()
        assert await holding == "went on"
        assert await app.call(put) == 1
        assert app.unready_reason is None


@pytest.mark.parametrize(("mode", "code", "said"), [("exit", 70, "in\n"), ("wait", 0, "in\nout\n")])
def test_4_a_stuck_writer_never_keeps_the_process(tmp_path: Path, mode: str, code: int, said: str) -> None:
    """With exit_when_stuck the process ends with code 70; without, the app can still be stopped, and the process ends."""
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "app.db"), mode],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (child.returncode, child.stdout) == (code, said), child.stderr
