"""What commits with what: a mutation's jobs with its writes, an action's at once, a nested call's with its outcome."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.limits import CALL_ARGS_BYTES_MAX, CALL_JOBS_MAX, RUN_MANY_CHUNK
from runtime import (
    ActionCtx,
    Call,
    ForgottenAwait,
    FunctionError,
    IntegrityError,
    InvalidArgs,
    LimitExceeded,
    MutationCtx,
    Namespace,
    PartiallyScheduled,
    QueryCtx,
    SqlRefused,
    UnknownFunction,
)

if TYPE_CHECKING:
    from runtime.testing import Harness
    from tests.runtime.conftest import Start

data: Namespace[Any] = Namespace("data")


@data.mutation
async def add(ctx: MutationCtx, *, what: str) -> None:
    """Write one row."""
    await ctx.db.execute("INSERT INTO log (what) VALUES (?)", [what])


@data.query
async def rows(ctx: QueryCtx) -> list[str]:
    """Read all rows."""
    return [row["what"] for row in await ctx.db.fetch_all("SELECT what FROM log ORDER BY at")]


async def left(h: Harness) -> tuple[list[str], int]:
    """Return the rows, and how many jobs there are."""
    return await h.call(rows), await h.scheduler.list().count()


# ------------------------------------------------------------------ a mutation's jobs


async def test_a_failed_mutation_leaves_neither_rows_nor_jobs_nor_cancellations(start: Start) -> None:
    """Whatever a mutation wrote, scheduled and canceled must be undone when it raises."""
    namespace: Namespace[Any] = Namespace("fails")
    ids: list[str] = []

    @namespace.mutation
    async def everything(ctx: MutationCtx, *, victim: str) -> None:
        await ctx.run_mutation(add, what="a")
        ids.append(await ctx.scheduler.run_now("data:add", {"what": "b"}))
        ids.extend(await ctx.scheduler.run_many([add.bind(what="c"), add.bind(what="d").after(9)]))
        assert await ctx.scheduler.cancel(victim) is True
        assert await ctx.scheduler.list(state="pending").count() == 3
        raise FunctionError("NO", "undo")

    h = await start(data, namespace)
    victim = await h.scheduler.run_after(5, "data:add", {"what": "victim"})
    with pytest.raises(FunctionError):
        await h.call(everything, victim=victim)
    assert await left(h) == ([], 1)
    for job_id in ids:
        assert await h.scheduler.get(job_id) is None
        assert await h.scheduler.cancel(job_id) is False
    assert [job.id for job in await h.advance(30)] == [victim]
    assert await left(h) == (["victim"], 1)


async def test_an_id_can_be_stored_and_used_in_the_same_transaction(start: Start) -> None:
    """The id is final before the mutation commits: in a row, for get, for cancel; and the job's parent is known."""
    namespace: Namespace[Any] = Namespace("stores")

    @namespace.mutation
    async def stores(ctx: MutationCtx) -> str:
        job_id = await ctx.scheduler.run_after(5, "data:add", {"what": "later"})
        await ctx.db.execute("INSERT INTO log (what) VALUES (?)", [job_id])
        job = await ctx.scheduler.get(job_id)
        assert job is not None
        assert (job.state, job.args) == ("pending", {"what": "later"})
        other = await ctx.scheduler.run_after(1, "data:add", {"what": "never"})
        assert await ctx.scheduler.cancel(other) is True
        return job_id

    h = await start(data, namespace)
    parent = await h.scheduler.run_now("stores:stores")
    (done,) = [job for job in await h.settle() if job.state == "success"]
    assert done.id == parent
    assert await h.call(rows) == [done.result]
    await h.advance(10)
    assert await h.call(rows) == [done.result, "later"]
    child = await h.scheduler.get(done.result)
    assert child is not None
    assert child.parent_id == parent


async def test_what_an_action_schedules_stands_though_it_fails(start: Start) -> None:
    """In an action each call is durable at once: a later failure must not take it back."""
    namespace: Namespace[Any] = Namespace("acts")

    @namespace.action
    async def fails(ctx: ActionCtx) -> None:
        await ctx.scheduler.run_now("data:add", {"what": "scheduled"})
        await ctx.run_mutation(add, what="written")
        raise RuntimeError

    h = await start(data, namespace)
    with pytest.raises(RuntimeError):
        await h.call(fails)
    await h.settle()
    assert sorted(await h.call(rows)) == ["scheduled", "written"]


async def test_a_refused_schedule_can_be_caught_inside_a_mutation(start: Start) -> None:
    """A scheduling call that is refused must leave the mutation as it was, so that it may go on."""
    namespace: Namespace[Any] = Namespace("goes_on")

    @namespace.mutation
    async def goes_on(ctx: MutationCtx) -> None:
        await ctx.run_mutation(add, what="a")
        with pytest.raises(UnknownFunction):
            await ctx.scheduler.run_now("data:ad", {"what": "x"})
        with pytest.raises(InvalidArgs):
            await ctx.scheduler.run_now("data:add", {"wat": "x"})
        await ctx.scheduler.run_now("data:add", {"what": "b"})

    h = await start(data, namespace)
    await h.call(goes_on)
    await h.settle()
    assert await left(h) == (["a", "b"], 1)


async def test_an_action_sees_its_own_mutations_and_a_query_none_of_the_future(start: Start) -> None:
    """Calls of an action are durable one after the other, each visible to the next."""
    namespace: Namespace[Any] = Namespace("acts")

    @namespace.action
    async def steps(ctx: ActionCtx) -> list[int]:
        seen = []
        for what in "abc":
            await ctx.run_mutation(add, what=what)
            seen.append(len(await ctx.run_query(rows)))
        return seen

    h = await start(data, namespace)
    assert await h.call(steps) == [1, 2, 3]


# ------------------------------------------------------------------ nested mutations


@data.mutation
async def add_and_schedule(ctx: MutationCtx, *, what: str, fail: bool = False) -> str:
    """Write and schedule, then perhaps fail."""
    await ctx.run_mutation(add, what=what)
    job_id = await ctx.scheduler.run_after(1, "data:add", {"what": f"{what} later"})
    if fail:
        raise FunctionError("INNER", what)
    return job_id


@data.mutation
async def outer(ctx: MutationCtx, *, catches: bool, fails: bool = False) -> None:
    """Call an inner mutation that fails, between two that don't."""
    await ctx.run_mutation(add_and_schedule, what="before")
    try:
        await ctx.run_mutation(add_and_schedule, what="inner", fail=True)
    except FunctionError:
        if not catches:
            raise
    assert await ctx.run_query(rows) == ["before"]
    await ctx.run_mutation(add_and_schedule, what="after")
    if fails:
        raise FunctionError("OUTER", "undo all")


async def test_a_caught_inner_failure_undoes_the_inner_only(start: Start) -> None:
    """An inner mutation's writes and jobs must go, and everything before and after it must stay."""
    h = await start(data)
    await h.call(outer, catches=True)
    assert await left(h) == (["before", "after"], 2)
    await h.advance(5)
    assert await h.call(rows) == ["before", "after", "before later", "after later"]


@pytest.mark.parametrize("arguments", [{"catches": False}, {"catches": True, "fails": True}])
async def test_an_outer_failure_undoes_everything(start: Start, arguments: dict[str, bool]) -> None:
    """What an inner mutation did must go with the outer one, and nothing may fire later."""
    h = await start(data)
    with pytest.raises(FunctionError):
        await h.call(outer, **arguments)
    assert await left(h) == ([], 0)
    assert await h.advance(30) == []


async def test_a_nested_query_cannot_write(start: Start) -> None:
    """Inside a mutation a nested query reads the mutation's own writes, and is refused its own."""
    namespace: Namespace[Any] = Namespace("nest")

    @namespace.query
    async def sneaky(ctx: QueryCtx) -> int:
        assert not hasattr(ctx, "scheduler")
        assert not hasattr(ctx.db, "execute")
        with pytest.raises(SqlRefused, match="is not allowed here"):
            await ctx.db.fetch_all("DELETE FROM log RETURNING at")
        return int(await ctx.db.fetch_value("SELECT count(*) FROM log"))

    @namespace.mutation
    async def calls_it(ctx: MutationCtx) -> list[int]:
        await ctx.run_mutation(add, what="a")
        first = await ctx.run_query(sneaky)
        await ctx.run_mutation(add, what="b")
        return [first, await ctx.run_query(sneaky)]

    h = await start(data, namespace)
    assert await h.call(calls_it) == [1, 2]


async def test_a_plain_call_shares_the_callers_transaction(start: Start) -> None:
    """`await fn(ctx, …)` is an ordinary function call: no savepoint, no validation, the caller's invoker."""
    namespace: Namespace[Any] = Namespace("plain")

    @namespace.mutation
    async def inner(ctx: MutationCtx, *, n: int) -> list[Any]:
        await add(ctx, what=f"row {n}")
        return [n, ctx.invoker.source]

    @namespace.mutation
    async def whole(ctx: MutationCtx) -> list[Any]:
        return await inner(ctx, n="not validated")  # type: ignore[arg-type]

    h = await start(data, namespace)
    assert await h.call(whole) == ["not validated", "local"]
    assert await h.call(rows) == ["row not validated"]


async def test_a_forgotten_await_in_a_nested_mutation_undoes_it(start: Start) -> None:
    """The inner mutation must fail with the sentence that says so; the outer one may catch it."""
    namespace: Namespace[Any] = Namespace("forgets")

    @namespace.mutation
    async def forgets(ctx: MutationCtx) -> None:
        await ctx.run_mutation(add, what="inner")
        ctx.db.execute("DELETE FROM log")  # type: ignore[unused-coroutine]

    @namespace.mutation
    async def catches(ctx: MutationCtx) -> None:
        await ctx.run_mutation(add, what="outer")
        with pytest.raises(ForgottenAwait, match="you forgot await"):
            await ctx.run_mutation(forgets)

    h = await start(data, namespace)
    with pytest.raises(ForgottenAwait, match="you forgot await: 1 ctx call"):
        await h.call(forgets)
    assert await left(h) == ([], 0)


async def test_a_caught_constraint_undoes_that_statement_only(start: Start) -> None:
    """A mutation that catches IntegrityError must go on with that statement undone, all rows of an executemany too."""
    namespace: Namespace[Any] = Namespace("doubles")
    insert = "INSERT INTO log (what) VALUES (?)"

    @namespace.mutation
    async def doubles(ctx: MutationCtx) -> None:
        await ctx.db.execute(insert, ["a"])
        with pytest.raises(IntegrityError):
            await ctx.db.execute(insert, ["a"])
        with pytest.raises(IntegrityError):
            await ctx.db.executemany(insert, [["b"], ["c"], ["a"], ["d"]])
        await ctx.db.execute(insert, ["e"])

    h = await start(data, namespace)
    await h.call(doubles)
    assert await h.call(rows) == ["a", "e"]


# ------------------------------------------------------------------ limits of one call


@pytest.mark.parametrize("kind", ["mutation", "action"])
async def test_one_call_schedules_a_thousand_jobs_and_no_more(start: Start, kind: str) -> None:
    """CALL_JOBS_MAX jobs must do, one more must be refused: by run_many at once, or one by one."""
    namespace: Namespace[Any] = Namespace("limits")

    async def body(ctx: Any, *, many: int, single: int) -> None:
        await ctx.scheduler.run_many([add.bind(what=str(n)).after(60) for n in range(many)])
        for n in range(single):
            await ctx.scheduler.run_after(60, add.bind(what=f"single {n}"))

    fn = getattr(namespace, kind)(body)
    h = await start(data, namespace)
    await h.call(fn, many=CALL_JOBS_MAX - 2, single=2)
    assert await h.scheduler.list().count() == CALL_JOBS_MAX
    for many, single in ((CALL_JOBS_MAX + 1, 0), (CALL_JOBS_MAX, 1)):
        with pytest.raises(LimitExceeded, match="may schedule at most 1000 jobs"):
            await h.call(fn, many=many, single=single)
    stands = CALL_JOBS_MAX if kind == "action" else 0  # an action's first thousand stood before it went on
    assert await h.scheduler.list().count() == CALL_JOBS_MAX + stands


@pytest.mark.parametrize("kind", ["mutation", "action"])
async def test_one_call_schedules_eight_mebibytes_and_no_more(start: Start, kind: str) -> None:
    """All arguments of one call together must stay within CALL_ARGS_BYTES_MAX."""
    namespace: Namespace[Any] = Namespace("limits")
    size = CALL_ARGS_BYTES_MAX // 8 - 100

    async def body(ctx: Any, *, jobs: int) -> None:
        for _ in range(jobs):
            await ctx.scheduler.run_after(60, "data:add", {"what": "x" * size})

    fn = getattr(namespace, kind)(body)
    h = await start(data, namespace)
    await h.call(fn, jobs=8)
    with pytest.raises(LimitExceeded, match=f"at most {CALL_ARGS_BYTES_MAX} bytes of arguments in all"):
        await h.call(fn, jobs=9)


async def test_the_app_itself_has_no_such_limits(start: Start) -> None:
    """run_many on the app must take any number, lazily, in chunks, and give the ids in order."""
    h = await start(data)
    count = 2 * RUN_MANY_CHUNK + 1
    ids = await h.scheduler.run_many(add.bind(what=str(n)).after(1 + n / 1000) for n in range(count))
    assert len(set(ids)) == count
    assert [job.id for job in await h.pending()] == list(ids)


@pytest.mark.parametrize("good", [0, 1, RUN_MANY_CHUNK - 1, RUN_MANY_CHUNK, RUN_MANY_CHUNK + 7])
async def test_run_many_says_what_is_durable_when_it_is_cut_short(start: Start, good: int) -> None:
    """Chunks before the bad call stand and are named; the bad call's own chunk is stored whole or not at all."""
    h = await start(data)
    calls = [*(add.bind(what=str(n)).after(9) for n in range(good)), Call("data:ad"), add.bind(what="never")]
    durable = good // RUN_MANY_CHUNK * RUN_MANY_CHUNK
    expected: type[Exception] = PartiallyScheduled if durable else UnknownFunction
    with pytest.raises(expected) as caught:
        await h.scheduler.run_many(calls)
    pending = await h.pending()
    assert len(pending) == durable
    if durable:
        assert isinstance(caught.value, PartiallyScheduled)
        assert [job.id for job in pending] == list(caught.value.ids)
        assert isinstance(caught.value.__cause__, UnknownFunction)
        assert f"{durable} jobs are durable, then: UnknownFunction" in str(caught.value)


async def test_run_many_of_a_failing_iterable_keeps_what_was_committed(start: Start) -> None:
    """An iterable of the app's own that raises half-way must be reported in the same way."""
    h = await start(data)

    def calls() -> Any:
        for n in range(RUN_MANY_CHUNK + 5):
            yield add.bind(what=str(n)).after(9)
        raise LookupError("source")

    with pytest.raises(PartiallyScheduled) as caught:
        await h.scheduler.run_many(calls())
    assert len(caught.value.ids) == await h.scheduler.list().count() == RUN_MANY_CHUNK
    assert isinstance(caught.value.__cause__, LookupError)
    assert list(await h.scheduler.run_many([])) == []


async def test_a_number_is_never_given_out_again_not_even_after_a_crash(start: Start) -> None:
    """A job that was rolled back takes its number along, also when the process dies right after."""
    namespace: Namespace[Any] = Namespace("numbers")
    ids: list[str] = []

    @namespace.mutation
    async def schedule(ctx: MutationCtx, *, fails: bool) -> None:
        ids.append(await ctx.scheduler.run_after(60, "numbers:schedule", {"fails": False}))
        if fails:
            raise FunctionError("CONFLICT", "no")

    h = await start(namespace)
    for fails in (True, False):
        with pytest.raises(FunctionError) if fails else contextlib.nullcontext():
            await h.call(schedule, fails=fails)
        await h.restart(kill=True)
    first, second = (int(job_id[:16], 16) for job_id in ids)
    assert second > first
