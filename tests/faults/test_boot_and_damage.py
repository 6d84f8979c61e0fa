"""R11, V7, K9: what a boot finds in the file - interrupted actions, pending work, and rows that are garbage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actor_scheduler import codec
from actor_scheduler.model import TERMINAL
from runtime import ActionCtx, Namespace
from tests.faults.injector import rows
from tests.faults.rig import make

if TYPE_CHECKING:
    from pathlib import Path


def actions(started: list[str]) -> Namespace[Any]:
    """Return an action that never ends by itself, and one that does."""
    ns: Namespace[Any] = Namespace("a")

    @ns.action
    async def stands(ctx: ActionCtx[Any]) -> None:
        started.append(ctx.idempotency_key)
        await asyncio.get_running_loop().create_future()

    @ns.action
    async def act(ctx: ActionCtx[Any], *, who: str) -> None:
        started.append(who)

    return ns


async def test_K9_actions_in_progress_at_a_crash_are_interrupted_exactly_once(path: Path, db: Any) -> None:
    """Over any number of crashes: failed once with cause interrupted, never started again, the moment kept."""
    started: list[str] = []
    async with make(path, actions(started), db=db) as rig:
        ids = [await rig.app.scheduler.run_now("a:stands") for _ in range(3)]
        await rig.rest()
        assert sorted(started) == sorted(ids)
        await rig.restart()
        first = [await rig.job(job_id) for job_id in ids]
        assert [(job.state, job.cause, job.attempt) for job in first] == [("failed", "interrupted", 1)] * 3
        for _ in range(4):
            await rig.pass_time(60)
            await rig.restart()
        assert [await rig.job(job_id) for job_id in ids] == first
        assert sorted(started) == sorted(ids)


async def test_K5_pending_work_survives_any_number_of_crashes_and_runs_once(path: Path) -> None:
    """Killed and started in a loop before, at and after its time, each pending job runs exactly once."""
    started: list[str] = []
    async with make(path, actions(started)) as rig:
        for at in range(6):
            await rig.app.scheduler.run_after(at, "l:put", {"who": f"m{at}"})
            await rig.app.scheduler.run_after(at, "a:act", {"who": f"a{at}"})
        for _ in range(8):
            await rig.restart()
            await rig.restart()
            await rig.pass_time(1)
        assert await rig.call("l:names") == [f"m{at}" for at in range(6)]
        assert started == [f"a{at}" for at in range(6)]
        boots = rows(path, "SELECT value FROM _scheduler_meta WHERE name = 'boot_epoch'")
        assert boots == [(17,)]


async def test_K17_sequence_numbers_are_never_given_out_twice_over_crashes(path: Path) -> None:
    """Ids only rise, also when the newest rows were pruned before the crash."""
    ids: list[str] = []
    async with make(path) as rig:
        for _ in range(5):
            ids.append(await rig.app.scheduler.run_after(60, "l:put", {"who": "x"}))
            await rig.kill()
            rows(path, "DELETE FROM _scheduler_jobs WHERE seq = (SELECT max(seq) FROM _scheduler_jobs)")
            await rig.start()
    assert ids == sorted(set(ids))


DAMAGE = [
    ("args", "x''", "invalid_args"),
    ("args", "x'00'", "invalid_args"),
    ("args", "x'01'", "invalid_args"),
    ("args", "x'01c1'", "invalid_args"),
    ("args", "x'0193010203'", "invalid_args"),
    ("args", "x'01dfffffffff'", "invalid_args"),
    ("args", "x'0181a377686fc0'", "invalid_args"),
    ("args", "x'01d6ff00000000'", "invalid_args"),
    ("args", "x'01c7ff0500'", "invalid_args"),
    ("args", "zeroblob(100000)", "invalid_args"),
    ("args", "x'02' || substr(args, 2)", "invalid_args"),
    ("path", "'gone:function'", "unknown_function"),
    ("path", "''", "unknown_function"),
    ("path", "char(0, 10, 0x202e)", "unknown_function"),
    ("path", "'../../etc/passwd:x'", "unknown_function"),
    ("path", "'l:names'", "unknown_function"),
    ("kind", "'query'", "unknown_function"),
    ("kind", "'zzz'", "unknown_function"),
    ("result", "x'ffff'", None),
    ("error_data", "x'ffff'", None),
    ("parent_id", "'nobody'", None),
    ("fire_at_us", "-9223372036854775808", None),
    ("nonce", "-1", None),
]


@pytest.mark.parametrize("path_", ["l:put", "a:act"])
@pytest.mark.parametrize(("column", "value", "cause"), DAMAGE)
async def test_R11_a_damaged_row_fails_its_own_job_only(
    path: Path, path_: str, column: str, value: str, cause: str | None
) -> None:
    """It fails visibly, with the cause; its neighbours run; get, list and the system view go on answering."""
    started: list[str] = []
    async with make(path, actions(started)) as rig:
        await rig.app.scheduler.run_after(1, "l:put", {"who": "before"})
        await rig.app.scheduler.run_after(1, path_, {"who": "damaged"})
        await rig.app.scheduler.run_after(1, "a:act", {"who": "after"})
        await rig.kill()
        changed = f"CAST({value} AS BLOB)" if column == "args" else value
        rows(path, f"UPDATE _scheduler_jobs SET {column} = {changed} WHERE seq = 2")
        await rig.start()
        pending = (await rig.app.scheduler.list().page()).items
        assert len(pending) == 3
        await rig.pass_time(10)
        after, damaged, before = (await rig.app.scheduler.list().page()).items
        assert (before.state, after.state) == ("success", "success")
        assert (damaged.state, damaged.cause) == ("success" if cause is None else "failed", cause)
        if cause is not None:
            assert damaged.error
            assert "damaged" not in started + await rig.call("l:names")
        if column == "args":
            assert damaged.args_error or damaged.args
        assert await rig.job(damaged.id) == damaged
        assert rig.actor.broken is None


@pytest.mark.parametrize("state", ["zzz", "", "PENDING"])
async def test_R11_a_row_in_no_known_state_is_left_alone(path: Path, state: str) -> None:
    """It neither runs nor stops anything, and can be looked at."""
    async with make(path) as rig:
        job_id = await rig.app.scheduler.run_after(1, "l:put", {"who": "a"})
        await rig.app.scheduler.run_after(1, "l:put", {"who": "b"})
        await rig.kill()
        rows(path, "UPDATE _scheduler_jobs SET state = ? WHERE seq = 1", [state])
        await rig.start()
        await rig.pass_time(10)
        assert await rig.call("l:names") == ["b"]
        assert (await rig.job(job_id)).state == state
        assert await rig.app.scheduler.cancel(job_id) is False
        assert await rig.app.scheduler.retry(job_id) is False


@given(
    blobs=st.lists(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: codec.VERSION + data), max_size=30)
)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_R11_any_bytes_as_arguments_end_their_own_job_only(
    tmp_path_factory: pytest.TempPathFactory, blobs: list[bytes]
) -> None:
    """Whatever bytes stand for the arguments of pending jobs, each ends, and the sound one beside them succeeds."""
    path = tmp_path_factory.mktemp("damage") / "app.db"

    async def run() -> None:
        async with make(path, actions([])) as rig:
            ids = [
                await rig.app.scheduler.run_after(1, name, {"who": str(at)})
                for at in range(len(blobs) or 1)
                for name in ("l:put", "a:act")
            ]
            sound = await rig.app.scheduler.run_after(1, "l:put", {"who": "sound"})
            await rig.kill()
            for at, blob in enumerate(blobs):
                rows(path, "UPDATE _scheduler_jobs SET args = ? WHERE seq IN (?, ?)", [blob, 2 * at + 1, 2 * at + 2])
            await rig.start()
            await rig.pass_time(10)
            assert (await rig.job(sound)).state == "success"
            for job_id in ids:
                job = await rig.job(job_id)
                assert job.state in TERMINAL
                assert job.state == "success" or job.cause == "invalid_args"

    asyncio.run(run())
