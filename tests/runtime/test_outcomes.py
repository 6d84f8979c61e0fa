"""What became of a call: errors with their codes, results and their extracts, lists, and the system table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from actor_scheduler.limits import ERROR_CHARS_MAX, RESULT_BYTES_MAX
from runtime import ActionCtx, DatabaseError, FunctionError, InvalidArgs, MutationCtx, Namespace, QueryCtx, SqlRefused
from runtime.invoker import JobInvoker

if TYPE_CHECKING:
    from tests.runtime.conftest import Start

ends: Namespace[Any] = Namespace("ends")


class Model(BaseModel):
    """A model as a result."""

    n: int
    at: datetime


@dataclass
class Data:
    """A dataclass as a result."""

    n: int


class Mute:
    """A result, or an error's part, whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError


class MuteError(Exception):
    """An error whose text fails."""

    def __str__(self) -> str:
        raise RuntimeError


RESULTS: dict[str, tuple[Any, Any, bool]] = {  # what is returned, what the job shows, whether it is an extract
    "none": (None, None, False),
    "false": (False, False, False),
    "zero": (0, 0, False),
    "text": ("ä" * 100, "ä" * 100, False),
    "bytes": (b"\x00", b"\x00", False),
    "map": ({"a": [1, 2.5, None]}, {"a": [1, 2.5, None]}, False),
    "tuple": ((1, 2), [1, 2], False),
    "aware": (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), False),
    "model": (Model(n=1, at=datetime(2026, 1, 1, tzinfo=UTC)), {"n": 1, "at": "2026-01-01T00:00:00Z"}, False),
    "models": ([Data(1), Data(2)], [{"n": 1}, {"n": 2}], False),
    "large": ("x" * RESULT_BYTES_MAX, ("'" + "x" * 999), True),
    "nan": (float("nan"), None, None),
    "object": (object, "<class 'object'>", True),
    "mute": (Mute(), "<Mute>", True),
}  # fmt: skip

ERRORS: dict[str, BaseException] = {
    "coded": FunctionError("NOT_FOUND", "no such post", {"post_id": 7}),
    "bare": FunctionError("BAD_REQUEST", "no"),
    "unstorable": FunctionError("BAD", "x", {"what": object()}),
    "plain": LookupError("a secret detail"),
    "many lines": ValueError("one\n  two\n\tthree"),
    "long": ValueError("x" * 10_000),
    "mute": MuteError(),
    "surrogate": ValueError("\ud800"),
    "group": ExceptionGroup("several", [ValueError("a"), LookupError("b")]),
}


@ends.mutation
async def returns(ctx: MutationCtx, *, which: str) -> Any:
    """Return one of RESULTS."""
    return RESULTS[which][0]


@ends.action
async def returns_late(ctx: ActionCtx, *, which: str) -> Any:
    """Return one of RESULTS."""
    return RESULTS[which][0]


@ends.mutation
async def raises(ctx: MutationCtx, *, which: str) -> None:
    """Raise one of ERRORS."""
    raise ERRORS[which]


@ends.action
async def raises_late(ctx: ActionCtx, *, which: str) -> None:
    """Raise one of ERRORS."""
    raise ERRORS[which]


@ends.query
async def raises_reading(ctx: QueryCtx, *, which: str) -> None:
    """Raise one of ERRORS."""
    raise ERRORS[which]


# ------------------------------------------------------------------ results


@pytest.mark.parametrize("which", RESULTS)
@pytest.mark.parametrize("name", ["returns", "returns_late"])
async def test_a_jobs_result_is_kept_or_marked_as_an_extract(start: Start, name: str, which: str) -> None:
    """A live caller gets the very object; the job keeps its stored form, or an extract with a flag, and succeeds."""
    value, shown, truncated = RESULTS[which]
    h = await start(ends)
    assert await h.call(f"ends:{name}", {"which": which}) is value
    await h.scheduler.run_now(f"ends:{name}", {"which": which})
    (job,) = await h.settle()
    assert (job.state, job.error) == ("success", None)
    if truncated is not None:
        assert (job.result, job.result_truncated) == (shown, truncated)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize("which", ERRORS)
@pytest.mark.parametrize("name", ["raises", "raises_late", "raises_reading"])
async def test_a_live_caller_gets_the_error_itself(start: Start, name: str, which: str) -> None:
    """What a function raises must reach its in-process caller as it is, with code, message and data."""
    h = await start(ends)
    with pytest.raises(type(ERRORS[which])) as caught:
        await h.call(f"ends:{name}", {"which": which})
    assert caught.value is ERRORS[which]


@pytest.mark.parametrize("which", ERRORS)
@pytest.mark.parametrize("name", ["raises", "raises_late"])
async def test_a_jobs_error_is_one_line_with_code_and_data(start: Start, name: str, which: str) -> None:
    """A failed job must show one bounded line, the code and data of a FunctionError, and a traceback."""
    h = await start(ends)
    await h.scheduler.run_now(f"ends:{name}", {"which": which})
    (job,) = await h.settle()
    error = ERRORS[which]
    assert (job.state, job.cause, job.result, job.attempt) == ("failed", "error", None, 1)
    assert job.error is not None
    assert type(error).__name__ in job.error
    assert len(job.error) <= ERROR_CHARS_MAX
    assert "\n" not in job.error
    assert job.error_code == getattr(error, "code", None)
    assert job.error_data == ({"post_id": 7} if which == "coded" else job.error_data)
    if not isinstance(error, FunctionError):
        assert job.error_data is None
    if which == "coded":
        assert job.error == "FunctionError: NOT_FOUND: no such post"
    if which == "many lines":
        assert job.error == "ValueError: one two three"
    if which not in ("mute", "surrogate", "long"):
        assert job.traceback is not None
        assert "raise ERRORS[which]" in job.traceback


async def test_what_an_action_awaits_fails_with_the_same_error(start: Start) -> None:
    """A nested call's FunctionError must reach the caller with code and data, to be caught or to fail the job."""
    namespace: Namespace[Any] = Namespace("nests")

    @namespace.action
    async def outer(ctx: ActionCtx, *, catch: bool) -> Any:
        try:
            await ctx.run_mutation(raises, which="coded")
        except FunctionError as error:
            if not catch:
                raise
            return [error.code, error.message, error.data]

    h = await start(ends, namespace)
    assert await h.call(outer, catch=True) == ["NOT_FOUND", "no such post", {"post_id": 7}]
    await h.scheduler.now().call(outer, catch=False)
    (job,) = await h.settle()
    assert (job.state, job.error_code, job.error_data) == ("failed", "NOT_FOUND", {"post_id": 7})


async def test_jobs_of_a_release_that_is_gone_fail_with_their_cause(start: Start) -> None:
    """A job whose function is gone, changed kind, or refuses the stored arguments must fail and say so."""
    before: Namespace[Any] = Namespace("app")
    after: Namespace[Any] = Namespace("app")

    async def no_args(ctx: Any) -> None:
        pass

    async def with_args(ctx: Any, *, n: int) -> None:
        raise AssertionError

    for name in ("gone", "changed"):
        before.mutation(name=name)(no_args)
    before.mutation(name="kind")(no_args)
    after.mutation(name="changed")(with_args)
    after.action(name="kind")(no_args)
    h = await start(before)
    ids = {name: await h.scheduler.run_after(60, f"app:{name}") for name in ("gone", "changed", "kind")}
    await h.app._stop()
    h.app._registry._namespaces["app"] = after
    await h.app._start()
    await h.advance(60)
    jobs = {name: await h.scheduler.get(job_id) for name, job_id in ids.items()}
    assert {name: (job.state, job.cause) for name, job in jobs.items() if job} == {
        "gone": ("failed", "unknown_function"),
        "changed": ("failed", "invalid_args"),
        "kind": ("failed", "unknown_function"),
    }
    assert "n: Field required" in str(jobs["changed"])


# ------------------------------------------------------------------ lists


async def test_lists_filter_count_and_page(start: Start) -> None:
    """Filters must combine; pages must give every job once, newest first; count must agree with walking."""
    h = await start(ends)
    for n in range(25):
        name, which = [("returns", "zero"), ("raises", "bare"), ("returns_late", "zero")][n % 3]
        options = {"key": f"k{n}"} if n % 5 == 0 else {}
        await h.scheduler.run_after(n % 2 * 60, f"ends:{name}", {"which": which}, **options)
    await h.settle()
    everything = [job async for job in h.scheduler.list()]
    assert [job.id for job in everything] == sorted((job.id for job in everything), reverse=True)
    assert len(everything) == 25
    for filters in (
        {}, {"state": "pending"}, {"state": "failed"}, {"state": "canceled"}, {"fn": returns}, {"fn": "ends:raises"},
        {"key": "k5"}, {"fn": returns, "state": "success"}, {"fn": "no:such"}, {"key": "k0", "state": "pending"},
    ):  # fmt: skip
        path = getattr(filters.get("fn"), "path", filters.get("fn"))
        wanted = [
            job.id
            for job in everything
            if job.state == filters.get("state", job.state)
            and job.path == (path or job.path)
            and job.key == filters.get("key", job.key)
        ]
        listed = h.scheduler.list(**filters)
        assert [job.id async for job in listed] == wanted
        assert await listed.count() == len(wanted)
        paged: list[str] = []
        cursor = None
        while True:
            page = await listed.page(cursor=cursor, limit=4)
            assert len(page.items) <= 4
            paged += [job.id for job in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert paged == wanted


async def test_a_page_is_asked_for_sensibly(start: Start) -> None:
    """A limit outside 1 to 1000, and a cursor that no page gave, must be refused."""
    h = await start(ends)
    for limit in (0, -1, 1001):
        with pytest.raises(InvalidArgs, match="limit must be from 1 to 1000"):
            await h.scheduler.list().page(limit=limit)
    for cursor in ("", "x", "-1", "1.5", "9" * 40):
        with pytest.raises(InvalidArgs, match="cursor must be the next_cursor of an earlier page"):
            await h.scheduler.list().page(cursor=cursor)


async def test_paging_is_stable_while_jobs_are_added(start: Start) -> None:
    """Jobs that arrive while a list is walked must neither repeat nor hide older ones."""
    h = await start(ends)
    old = [await h.scheduler.run_after(60, returns.bind(which="zero")) for _ in range(120)]
    seen: list[str] = []
    async for job in h.scheduler.list():
        seen.append(job.id)
        if len(seen) % 30 == 0:
            await h.scheduler.run_after(60, returns.bind(which="zero"))
    assert seen == old[::-1]


# ------------------------------------------------------------------ the system table


async def test_a_query_reads_the_system_table_with_ordinary_sql(start: Start) -> None:
    """`_scheduled_functions` must show what scheduler.get shows, joinable with the app's own tables, in all ctxs."""
    namespace: Namespace[Any] = Namespace("admin")
    sql = "SELECT * FROM _scheduled_functions WHERE id = ?"

    @namespace.query
    async def look(ctx: QueryCtx, *, job_id: str) -> dict[str, Any]:
        row = await ctx.db.fetch_one(sql, [job_id])
        assert row is not None
        return dict(row)

    @namespace.mutation
    async def inside(ctx: MutationCtx) -> list[Any]:
        job_id = await ctx.scheduler.run_after(5, "ends:returns", {"which": "zero"})
        await ctx.db.execute("INSERT INTO log (what) VALUES (?)", [job_id])
        state = await ctx.db.fetch_value("SELECT state FROM _scheduled_functions JOIN log ON id = what")
        with pytest.raises(DatabaseError):
            await ctx.db.execute("DELETE FROM _scheduled_functions")
        with pytest.raises(SqlRefused):
            await ctx.db.execute("UPDATE _scheduler_jobs SET state = 'success'")
        return [job_id, state]

    h = await start(ends, namespace)
    job_id, state = await h.call(inside)
    assert state == "pending"
    for moment in (0, 10):
        await h.advance(moment)
        row, job = await h.call(look, job_id=job_id), await h.scheduler.get(job_id)
        assert job is not None
        assert (row["id"], row["name"], row["kind"], row["state"]) == (job.id, job.path, job.kind, job.state)
        assert (json.loads(row["args"]), row["attempt"]) == (job.args, job.attempt)
        assert row["scheduled_time_us"] == int(job.scheduled_at.timestamp() * 1_000_000)
        assert (row["completed_time_us"] is None) == (job.completed_at is None)
        assert (json.loads(row["result"]) if row["result"] else None) == job.result
    assert row["state"] == "success"


def test_an_invoker_is_a_value() -> None:
    """Invokers must compare by what they say, so that a test can build one."""
    assert JobInvoker("a", 1, 0, 1, "a") == JobInvoker("a", 1, 0, 1, "a")
