"""H1, H2, H9: whatever a body raises or returns is its caller's answer or its job's outcome; the app survives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.limits import ERROR_CHARS_MAX, RESULT_BYTES_MAX, TRACEBACK_CHARS_MAX
from runtime import ActionCtx, MutationCtx, Namespace, QueryCtx
from tests.faults.rig import make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Unprintable(Exception):
    """An error whose own text can't be had."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class Unshowable:
    """A result whose own text can't be had."""

    def __repr__(self) -> str:
        raise ValueError("no text")


def _recurse() -> None:
    _recurse()


ERRORS: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: Exception("plain"),
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseException": lambda: BaseException("bare"),
    "BaseExceptionGroup": lambda: BaseExceptionGroup("both", [KeyboardInterrupt(), SystemExit(1)]),
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "Unprintable": Unprintable,
    "StopIteration": lambda: StopIteration("value"),
    "StopAsyncIteration": StopAsyncIteration,
    "TimeoutError": TimeoutError,
    "surrogates": lambda: ValueError("\ud800\udfff\x00"),
    "huge": lambda: ValueError("x" * 1_000_000),
}


def raising() -> Namespace[Any]:
    """Return one function of each kind that raises what it is told to, after it wrote."""
    ns: Namespace[Any] = Namespace("r")

    def fail(name: str) -> None:
        if name == "RecursionError":
            _recurse()
        error = ERRORS[name]()
        raise error

    @ns.mutation
    async def mutation(ctx: MutationCtx[Any], *, name: str) -> None:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('half')")
        fail(name)

    @ns.mutation
    async def outer(ctx: MutationCtx[Any], *, name: str) -> None:
        await ctx.run_mutation("r:mutation", {"name": name})

    @ns.query
    async def query(ctx: QueryCtx[Any], *, name: str) -> None:
        await ctx.db.fetch_all("SELECT 1")
        fail(name)

    @ns.action
    async def action(ctx: ActionCtx[Any], *, name: str) -> None:
        fail(name)

    @ns.action
    async def action_of_mutation(ctx: ActionCtx[Any], *, name: str) -> None:
        await ctx.run_mutation("r:mutation", {"name": name})

    return ns


@pytest.mark.parametrize("path_", ["r:mutation", "r:outer"])
@pytest.mark.parametrize("name", ERRORS)
async def test_H2_a_live_mutation_may_raise_anything(path: Path, db: Any, name: str, path_: str) -> None:
    """Its caller gets an ordinary exception, nothing of it is kept, and its turn-mates commit."""
    async with make(path, raising(), db=db) as rig:
        first, failed, last = await rig.together(
            rig.call("l:put", who="a"), rig.call(path_, name=name), rig.call("l:put", who="b")
        )
        assert (first, last) == ("a", "b")
        assert isinstance(failed, Exception)
        assert await rig.call("l:names") == ["a", "b"]
        assert rig.actor.broken is None


@pytest.mark.parametrize("name", ERRORS)
async def test_H2_a_query_may_raise_anything(path: Path, db: Any, name: str) -> None:
    """Its caller gets the exception, and the reader is used again."""
    async with make(path, raising(), db=db) as rig:
        answers = await rig.together(*(rig.call("r:query", name=name) for _ in range(6)))
        assert all(isinstance(answer, BaseException) for answer in answers)
        assert await rig.call("l:names") == []


@pytest.mark.parametrize("path_", ["r:mutation", "r:outer", "r:action", "r:action_of_mutation"])
@pytest.mark.parametrize("name", ERRORS)
async def test_H2_a_scheduled_function_may_raise_anything(path: Path, name: str, path_: str) -> None:
    """Its job fails with a cause and a bounded one-line error; other jobs run, and the app goes on."""
    async with make(path, raising()) as rig:
        job_id = await rig.app.scheduler.run_after(1, path_, {"name": name})
        mate = await rig.app.scheduler.run_after(1, "l:put", {"who": "mate"})
        await rig.pass_time(1)
        job = await rig.job(job_id)
        assert job.state == "failed"
        assert job.cause in {"error", "interrupted"}
        assert job.error
        assert "\n" not in job.error
        assert len(job.error) <= ERROR_CHARS_MAX
        assert len(job.traceback or "") <= TRACEBACK_CHARS_MAX
        assert (await rig.job(mate)).state == "success"
        assert await rig.call("l:names") == ["mate"]
        await rig.restart()
        assert (await rig.job(job_id)).state == "failed"


RESULTS: dict[str, tuple[Callable[[], Any], bool]] = {
    "small": (lambda: {"a": [1, 2.5, None, b"x", "é"]}, False),
    "huge str": (lambda: "x" * (RESULT_BYTES_MAX + 1), True),
    "huge bytes": (lambda: b"x" * 20_000_000, True),
    "many items": (lambda: list(range(200_000)), True),
    "object": (object, True),
    "unshowable": (Unshowable, True),
    "surrogates": (lambda: "\ud800", True),
    "nan": (lambda: float("nan"), True),
    "big int": (lambda: 1 << 80, True),
    "keys": (lambda: {1: "a"}, True),
    "generator": (lambda: (n for n in (1, 2)), None),
    "lock": (asyncio.Lock, True),
}


def self_nested() -> Any:
    """Return a list that holds itself."""
    inner: list[Any] = []
    inner.append(inner)
    return inner


RESULTS["self"] = (self_nested, True)  # type: ignore[assignment]


@pytest.mark.parametrize("kind", ["mutation", "action"])
@pytest.mark.parametrize("name", RESULTS)
async def test_H9_the_outcome_of_a_job_does_not_depend_on_its_result(path: Path, name: str, kind: str) -> None:
    """Whatever a function returns, its job is a success; what can't be kept is a marked extract, bounded."""
    make_result, truncated = RESULTS[name]
    ns: Namespace[Any] = Namespace("r")

    @ns.mutation(name="mutation")
    async def mutation(ctx: MutationCtx[Any]) -> Any:
        await ctx.db.execute("INSERT INTO ledger (who) VALUES ('done')")
        return make_result()

    @ns.action(name="action")
    async def action(ctx: ActionCtx[Any]) -> Any:
        return make_result()

    async with make(path, ns) as rig:
        job_id = await rig.app.scheduler.run_now(f"r:{kind}")
        await rig.rest()
        job = await rig.job(job_id)
        assert job.state == "success"
        if truncated is not None and name not in {"nan", "keys"}:
            assert job.result_truncated is truncated
        if job.result_truncated:
            assert len(repr(job.result)) <= 2_000
        assert await rig.call("l:names") == (["done"] if kind == "mutation" else [])
