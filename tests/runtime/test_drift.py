"""V1-V3, V7: code and rows that have drifted apart since a job was scheduled. Only that job fails, and it says why."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest

from actor_scheduler import codec
from runtime import ActionCtx, App, Call, MutationCtx, Namespace, QueryCtx, Retry
from runtime.testing import START, Harness

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from actor_scheduler.model import Job

KINDS = ["mutation", "action"] * 20  # in turns: what stands in a row is read in one place for both
ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    """Begin with an empty record."""
    ran.clear()


def release(kind: Literal["mutation", "action", "query"], name: str = "f", **options: Any) -> Namespace[Any]:
    """Return a release of the app whose one function has this kind and name; a mate comes with each."""
    ns: Namespace[Any] = Namespace("jobs")

    async def body(ctx: Any, *, n: int = 0) -> str:
        ran.append((kind, name, n))
        if n < 0:
            raise LookupError(n)
        return kind

    @ns.mutation
    async def mate(ctx: MutationCtx) -> None:
        ran.append("mate")

    getattr(ns, kind)(name=name, **options)(body)
    return ns


async def life(path: Path, ns: Namespace[Any], then: Callable[[Harness[Any]], Awaitable[Any]], **options: Any) -> Any:
    """Run one release on the file, an hour after the one before it, and return what it gives."""
    options.setdefault("start", START + timedelta(hours=len(list(path.parent.glob("life-*")))))
    (path.parent / f"life-{options['start'].timestamp()}").touch()
    async with Harness(App("unused.db", namespaces=[ns]), db=path, **options) as h:
        return await then(h)


async def schedules(h: Harness[Any]) -> str:
    """Schedule the function, and a mate behind it."""
    job_id = await h.scheduler.run_after(60, Call("jobs:f", {"n": 7}), retry=Retry(3, jitter=0))
    await h.scheduler.run_after(60, "jobs:mate")
    return job_id


def looks(job_id: str) -> Callable[[Harness[Any]], Awaitable[Job]]:
    """Return a scenario that lets the backlog run and looks at one job."""

    async def look(h: Harness[Any]) -> Job:
        await h.advance(60)
        job = await h.scheduler.get(job_id)
        assert job is not None
        return job

    return look


def retries(job_id: str, cause: Any) -> Callable[[Harness[Any]], Awaitable[Job]]:
    """Return a scenario that brings the dead letters of a cause back and looks at one."""

    async def retry(h: Harness[Any]) -> Job:
        assert await h.scheduler.list(cause=cause).retry() == 1
        return await looks(job_id)(h)

    return retry


# ------------------------------------------------------------------ V1: gone, or renamed


@pytest.mark.parametrize("kind", ["mutation", "action"])
async def test_V1_the_job_of_a_removed_function_waits_as_a_dead_letter(tmp_path: Path, kind: Any) -> None:
    """Failed at its first attempt, its retries notwithstanding, with its arguments; one command brings it back."""
    path = tmp_path / "app.db"
    job_id = await life(path, release(kind), schedules)
    job = await life(path, release(kind, "g"), looks(job_id))
    assert (job.state, job.cause, job.attempt, job.args) == ("failed", "unknown_function", 1, {"n": 7})
    assert "jobs:f" in str(job.error)
    assert ran == ["mate"]
    job = await life(path, release(kind), retries(job_id, "unknown_function"))
    assert (job.state, job.attempt, job.cause) == ("success", 2, None)


@pytest.mark.parametrize("kind", ["mutation", "action"])
async def test_V1_an_alias_serves_the_backlog_of_the_old_name(tmp_path: Path, kind: Any) -> None:
    """Under its new name it runs, with what the function of today says of timeouts and keeping."""
    path = tmp_path / "app.db"
    job_id = await life(path, release(kind), schedules)
    renamed = release(kind, "g", aliases=["jobs:f"], keep=timedelta(0))
    job = await life(path, renamed, looks(job_id))
    assert (job.state, job.path) == ("success", "jobs:f")
    assert ((kind, "g", 7) in ran, len(ran)) == (True, 2)
    gone = await life(path, renamed, lambda h: _later(h, job_id), prune=True)
    assert gone is None


async def _later(h: Harness[Any], job_id: str) -> Job | None:
    await h.advance(minutes=3)
    return await h.scheduler.get(job_id)


@pytest.mark.parametrize("kind", ["mutation", "action"])
async def test_V1_the_policy_of_today_decides(tmp_path: Path, kind: Any) -> None:
    """A job without a policy of its own is retried as its function of today says, between attempts too."""
    path = tmp_path / "app.db"

    async def fails_once(h: Harness[Any]) -> str:
        job_id = await h.scheduler.run_now("jobs:f", {"n": -1})
        await h.settle()
        return job_id

    job_id = await life(path, release(kind, retry=Retry(2, jitter=0, base=7200, max_delay=7200)), fails_once)
    job = await life(path, release(kind, "g", aliases=["jobs:f"], retry=Retry(4, jitter=0, base=1)), looks(job_id))
    assert (job.state, job.attempt) == ("pending", 1)
    more = release(kind, "g", aliases=["jobs:f"], retry=Retry(4, jitter=0, base=1))
    job = await life(path, more, looks(job_id), start=START + timedelta(hours=9))
    assert (job.state, job.attempt, len(ran)) == ("failed", 4, 4)


# ------------------------------------------------------------------ V2: arguments


@pytest.mark.parametrize("kind", ["mutation", "action"])
async def test_V2_arguments_that_fit_no_more(tmp_path: Path, kind: Any) -> None:
    """Failed: invalid_args, the body not entered, not retried by itself; by hand once the code is right again."""
    path = tmp_path / "app.db"
    job_id = await life(path, release(kind), schedules)
    ns: Namespace[Any] = Namespace("jobs")

    async def other(ctx: Any, *, n: str) -> None:
        ran.append(n)

    getattr(ns, kind)(name="f", retry=5)(other)
    job = await life(path, ns, looks(job_id))
    assert (job.state, job.cause, job.attempt, job.args) == ("failed", "invalid_args", 1, {"n": 7})
    assert "n" in str(job.error)
    assert ran == []
    job = await life(path, release(kind), retries(job_id, "invalid_args"))
    assert (job.state, job.attempt) == ("success", 2)


# ------------------------------------------------------------------ V3: kinds


@pytest.mark.parametrize(
    ("was", "now"),
    [("mutation", "action"), ("mutation", "query"), ("action", "mutation"), ("action", "query")],
)
async def test_V3_a_job_runs_as_the_kind_it_was_scheduled_as_or_not_at_all(tmp_path: Path, was: Any, now: Any) -> None:
    """What was promised of its delivery would not hold: it fails, and says what the function is now."""
    path = tmp_path / "app.db"
    job_id = await life(path, release(was), schedules)
    job = await life(path, release(now), looks(job_id))
    assert (job.state, job.cause, job.attempt, job.kind) == ("failed", "unknown_function", 1, was)
    a = {"query": "a query", "mutation": "a mutation", "action": "an action"}
    assert job.error == f"jobs:f is {a[now]}, not {a[was]}: use run_{now} where ctx has it"
    assert ran == ["mate"]
    job = await life(path, release(was), retries(job_id, "unknown_function"))
    assert (job.state, job.attempt, job.result) == ("success", 2, was)


@pytest.mark.parametrize("now", ["mutation", "query", "gone"])
async def test_V3_an_interrupted_attempt_of_a_function_that_changed(tmp_path: Path, now: Any) -> None:
    """It ends as its own policy says; its next attempt finds no action, and is the last."""
    path = tmp_path / "app.db"
    ns: Namespace[Any] = Namespace("jobs")

    @ns.action
    async def f(ctx: ActionCtx, *, n: int = 0) -> None:
        await ctx.sleep(600)

    async def dies(h: Harness[Any]) -> list[str]:
        ids = [await h.scheduler.run_now("jobs:f", retry=Retry(9, jitter=0)), await h.scheduler.run_now("jobs:f")]
        await h.advance(1)
        await h.app._stop(kill=True)
        return ids

    ids = await life(path, ns, dies)
    changed = release("mutation", "g") if now == "gone" else release(now)
    jobs = [await life(path, changed, looks(job_id)) for job_id in ids]
    assert [(job.state, job.cause, job.attempt) for job in jobs] == [
        ("failed", "unknown_function", 2), ("failed", "interrupted", 1),
    ]  # fmt: skip
    assert ran == []


# ------------------------------------------------------------------ V7: what stands in the row


def damage(path: Path, job_id: str, column: str, value: Any) -> None:
    """Write something into one job's row, as no release of ours would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        setting = "CAST(? AS TEXT)" if column in {"path", "kind", "error", "cause"} else "?"
        raw.execute(f"UPDATE _scheduler_jobs SET {column} = {setting} WHERE seq = ?", (value, int(job_id[:16], 16)))


ARGS = {
    "none": b"",
    "another version": b"\x02\x80",
    "no version": codec.encode({"n": 7})[1:],
    "cut": codec.encode({"n": 7})[:-1],
    "longer": codec.encode({"n": 7}) + b"\x00",
    "no map": codec.encode([7]),
    "other keys": b"\x01\x81\x07\x07",
    "an extension": b"\x01\x81\xa1n\xd4\x05\x00",
    "deep": b"\x01" + b"\x91" * 2_000 + b"\xc0",
    "a promise": b"\x01\xdd\xff\xff\xff\xff",
    "never used": b"\x01\xc1",
}


@pytest.mark.parametrize(("what", "kind"), list(zip(ARGS, KINDS, strict=False)))
async def test_V7_arguments_that_can_not_be_read(tmp_path: Path, kind: Any, what: str) -> None:
    """That job fails, unentered and not retried; it can still be looked at, and its neighbors run."""
    path = tmp_path / "app.db"
    job_id = await life(path, release(kind), schedules)
    damage(path, job_id, "args", ARGS[what])
    job = await life(path, release(kind), looks(job_id))
    assert (job.state, job.cause, job.attempt) == ("failed", "invalid_args", 1)
    assert (job.args, str(job.args_error).split()) == ({}, str(job.error).split())
    assert ran == ["mate"]


POLICIES = {
    "none": b"",
    "another version": b"\x07" + codec.encode(Retry(9).to_plain())[1:],
    "cut": codec.encode(Retry(9).to_plain())[:-2],
    "no map": codec.encode([1, 2]),
    "parts missing": codec.encode({"max_attempts": 9}),
    "wrong parts": codec.encode({**Retry(9).to_plain(), "max_attempts": "many"}),
    "endless": codec.encode({**Retry(9).to_plain(), "max_attempts": 1 << 62}),
    "backward": codec.encode({**Retry(9).to_plain(), "base_us": -5}),
    "no names": codec.encode({**Retry(9).to_plain(), "retry_on": 5}),
}


@pytest.mark.parametrize(("what", "kind"), list(zip(POLICIES, KINDS, strict=False)))
async def test_V7_a_policy_that_can_not_be_read(
    tmp_path: Path, kind: Any, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its function's policy holds instead, and the log says so; the job itself runs."""
    path = tmp_path / "app.db"

    async def fails(h: Harness[Any]) -> str:
        return await h.scheduler.run_after(60, "jobs:f", {"n": -1}, retry=9)

    ns = release(kind, retry=Retry(2, jitter=0, base=1))
    job_id = await life(path, ns, fails)
    damage(path, job_id, "retry", POLICIES[what])
    job = await life(path, ns, looks(job_id))
    assert (job.state, job.attempt, job.error) == ("failed", 2, "LookupError: -1")
    assert "its function's policy holds" in caplog.text


DAMAGE = [
    ("timeout_us", -5), ("timeout_us", 1 << 62), ("chain", -5), ("chain", 1 << 62), ("canceling", 7),
    ("priority", 1 << 40), ("prune_at_us", 5), ("deaths", -9), ("deaths", 1 << 40), ("path", b"\xff\xfe"),
    ("kind", b"query"), ("kind", b"\xff"), ("kind", b"nonsense"), ("attempt", -3), ("attempt", 1 << 62),
    ("lane", "other"), ("meta", b"x"), ("error", b"\xff"), ("cause", b"\xff"), ("boot", -1),
]  # fmt: skip


@pytest.mark.parametrize(("damaged", "kind"), list(zip(DAMAGE, KINDS, strict=False)))
async def test_V7_whatever_else_stands_in_a_row(tmp_path: Path, damaged: tuple[str, Any], kind: Any) -> None:
    """The app starts, that job ends or waits, its neighbor runs, and the job can be looked at and dropped."""
    path = tmp_path / "app.db"
    job_id = await life(path, release(kind), schedules)
    damage(path, job_id, *damaged)

    async def look(h: Harness[Any]) -> None:
        await h.advance(120)
        assert "mate" in ran
        assert h.app.unready_reason is None
        (job,) = [job async for job in h.scheduler.list() if job.id == job_id]
        assert job.state in {"success", "failed"}
        assert await h.scheduler.drop(job_id)

    await life(path, release(kind), look)
    assert ran.count("mate") == 1


async def test_V7_a_query_can_not_be_due(tmp_path: Path) -> None:
    """A row that asks for a query fails like one whose function is gone."""
    path = tmp_path / "app.db"
    job_id = await life(path, release("mutation"), schedules)
    damage(path, job_id, "path", b"jobs:look")
    ns = release("mutation")

    @ns.query
    async def look(ctx: QueryCtx, *, n: int = 0) -> None:
        ran.append("looked")

    job = await life(path, ns, looks(job_id))
    assert (job.state, job.cause, ran) == ("failed", "unknown_function", ["mate"])
