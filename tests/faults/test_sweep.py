"""Every statement of a scenario fails once, one after the other, until the scenario passes without a fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.errors import OutcomeUnknown, StoreUnavailable
from runtime import ActionCtx, MutationCtx, Namespace
from tests.faults.injector import FSYNC, FULL, IOERR, rows
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.injector import Injector


def functions(started: list[str]) -> Namespace[Any]:
    """Return the functions of the scenario."""
    ns: Namespace[Any] = Namespace("s")

    @ns.mutation
    async def both(ctx: MutationCtx[Any]) -> str:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('both')")
        await ctx.scheduler.run_after(2, "l:put", {"who": "job of both"})
        return "both"

    @ns.action
    async def act(ctx: ActionCtx[Any]) -> None:
        started.append(ctx.idempotency_key)
        for _ in range(20):
            try:
                await ctx.run_mutation("l:put", {"who": "of action"})
            except StoreUnavailable:
                await ctx.sleep(1)  # definitely not done: tried again
            except OutcomeUnknown:
                break
            else:
                break

    return ns


async def scenario(path: Path, faults: Injector) -> None:
    """Do a little of everything while one statement fails, let time heal it, and check every promise made."""
    started: list[str] = []
    async with make(path, functions(started)) as rig:
        faults.calls = 0
        live = await rig.attempt("l:put", who="live")
        (once,) = await rig.together(rig.app.idempotent("k").call("l:put", {"who": "once"}))
        both = await rig.attempt("s:both")
        job, action, doomed = await rig.together(
            rig.app.scheduler.run_after(1, "l:put", {"who": "job"}),
            rig.app.scheduler.run_after(1, "s:act"),
            rig.app.scheduler.run_after(3, "l:put", {"who": "doomed"}, key="doomed"),
        )
        (canceled,) = await rig.together(rig.app.scheduler.cancel(key="doomed"))
        await rig.pass_time(120)
        calls, faults.fail_call = faults.failed_call, None
        assert await rig.app.idempotent("k").call("l:put", {"who": "once"}) == "once"
        for restarted in (False, True):
            if restarted:
                await rig.restart()
            names = await rig.call("l:names")
            assert len(names) == len(set(names)), calls
            promise(live, "live", names)
            promise(both, "both", names)
            assert ("both" in names) == ("job of both" in names)
            promise(job, "job", names)
            assert "once" in names
            assert isinstance(once, str | StoreUnavailable | OutcomeUnknown)
            if canceled is True:
                assert "doomed" not in names
            elif isinstance(doomed, str) and canceled is False:
                assert "doomed" in names
            if isinstance(action, str):
                assert started == [action]
                assert (await rig.job(action)).attempt == 1
            assert {job.state async for job in rig.app.scheduler.list()} <= {"success", "canceled"}
            assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def promise(answer: Any, who: str, names: list[str]) -> None:
    """Check that what a caller was told is so."""
    if isinstance(answer, StoreUnavailable):
        assert who not in names
    elif not isinstance(answer, OutcomeUnknown):
        assert isinstance(answer, str), answer
        assert who in names


async def sweep(folder: Path, faults: Injector) -> int:
    """Fail each statement once, in turn; return how many there were."""
    at = 0
    while True:
        at += 1
        faults.fail_call, faults.failed_call, faults.calls = at, None, -10_000
        try:
            await scenario(folder / f"{at}.db", faults)
        except Exception as error:
            msg = f"after a fault at statement {at}, {faults.failed_call!r}: {error}"
            raise AssertionError(msg) from error
        if faults.failed_call is None:
            return at - 1


@pytest.mark.parametrize(
    ("name", "after"), [(IOERR, False), (FSYNC, True), (FULL, False)], ids=["ioerr", "answer_lost", "full"]
)
async def test_G3_every_statement_may_fail_once(tmp_path: Path, faults: Injector, name: str, after: bool) -> None:
    """Whichever statement fails: no false acknowledgement, no half mutation, no double start, no failed job."""
    faults.fail_call_with, faults.fail_call_after = name, after
    assert await sweep(tmp_path, faults) > 40
