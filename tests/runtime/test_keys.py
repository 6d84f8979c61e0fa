"""Keys: at most one unfinished job under `key`, one job for ever under `idempotency_key`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runtime import ActionCtx, App, FunctionError, InvalidArgs, KeyConflict, MutationCtx, Namespace, QueryCtx, WrongKind

if TYPE_CHECKING:
    from runtime.testing import Harness
    from tests.runtime.conftest import Start

work: Namespace[Any] = Namespace("work")
PLACES = ("app", "mutation", "action")


@work.mutation
async def note(ctx: MutationCtx, *, n: int = 0) -> int:
    """Return its argument."""
    return n


@work.action
async def slow(ctx: ActionCtx, *, n: int = 0) -> int:
    """Take ten seconds."""
    await ctx.sleep(10)
    return n


@work.action
async def breaks(ctx: ActionCtx, *, n: int = 0) -> int:
    """Fail."""
    raise LookupError(n)


@work.mutation
async def schedule_in_mutation(ctx: MutationCtx, *, delay: float, path: str, n: int, options: dict[str, Any]) -> str:
    """Schedule from a mutation."""
    return await ctx.scheduler.run_after(delay, path, {"n": n}, **options)


@work.action
async def schedule_in_action(ctx: ActionCtx, *, delay: float, path: str, n: int, options: dict[str, Any]) -> str:
    """Schedule from an action."""
    return await ctx.scheduler.run_after(delay, path, {"n": n}, **options)


async def put(h: Harness, place: str, n: int = 0, *, path: str = "work:note", delay: float = 5, **options: Any) -> str:
    """Schedule one job from a place."""
    if place == "app":
        return await h.scheduler.run_after(delay, path, {"n": n}, **options)
    args = {"delay": delay, "path": path, "n": n, "options": options}
    job_id: str = await h.call(f"work:schedule_in_{place}", args)
    return job_id


# ------------------------------------------------------------------ key


@pytest.mark.parametrize("place", PLACES)
async def test_keep_gives_the_first_job(start: Start, place: str) -> None:
    """Under an unfinished key, `keep` (the default) must store nothing and give the first job's id."""
    h = await start(work)
    first = await put(h, place, 1, key="k")
    assert await put(h, place, 2, key="k") == first
    assert await put(h, place, 3, key="k", on_conflict="keep", path="work:slow", delay=0) == first
    assert await put(h, place, 4, key="other") != first
    assert [job.result for job in await h.advance(30)] == [1, 4]


@pytest.mark.parametrize("place", PLACES)
async def test_replace_cancels_the_pending_job(start: Start, place: str) -> None:
    """`replace` must cancel what is pending and put the new job in its place, with its own time and arguments."""
    h = await start(work)
    first = await put(h, place, 1, key="k", delay=5)
    second = await put(h, place, 2, key="k", delay=20, on_conflict="replace")
    assert [job.id for job in await h.pending()] == [second]
    third = await put(h, place, 3, key="k", delay=1, on_conflict="replace")
    ended = await h.advance(60)
    assert [(job.id, job.state) for job in ended] == [(first, "canceled"), (second, "canceled"), (third, "success")]
    assert ended[-1].result == 3


@pytest.mark.parametrize("place", PLACES)
async def test_error_refuses_a_second_job(start: Start, place: str) -> None:
    """`error` must raise KeyConflict, naming the job that has the key, and leave that one as it was."""
    h = await start(work)
    first = await put(h, place, 1, key="k", on_conflict="error")
    with pytest.raises(KeyConflict, match=f"key 'k' is taken by the unfinished job {first}"):
        await put(h, place, 2, key="k", on_conflict="error")
    assert [job.id for job in await h.pending()] == [first]


async def test_a_running_action_holds_its_key_and_cannot_be_replaced(start: Start) -> None:
    """An action that runs is unfinished: keep gives it, replace and error refuse; once it ended, the key is free."""
    h = await start(work)
    running = await put(h, "app", 1, path="work:slow", delay=0, key="k")
    await h.settle()
    assert await put(h, "app", 2, key="k") == running
    with pytest.raises(KeyConflict, match="is running and can't be replaced"):
        await put(h, "app", 2, key="k", on_conflict="replace")
    with pytest.raises(KeyConflict, match="is taken by the unfinished job"):
        await put(h, "app", 2, key="k", on_conflict="error")
    await h.advance(10)
    assert await put(h, "app", 3, key="k", on_conflict="error") != running


@pytest.mark.parametrize("end", ["success", "failed", "canceled"])
async def test_a_key_is_free_once_its_job_has_ended(start: Start, end: str) -> None:
    """However the job ended, the next one under its key is a new one."""
    h = await start(work)
    first = await put(h, "app", path="work:breaks" if end == "failed" else "work:note", delay=1, key="k")
    if end == "canceled":
        assert await h.scheduler.cancel(key="k")
    (job,) = await h.advance(1)
    assert (job.id, job.state) == (first, end)
    assert await put(h, "app", key="k", on_conflict="error") != first
    assert await h.scheduler.list(key="k").count() == 2


@pytest.mark.parametrize("kind", ["mutation", "action"])
@pytest.mark.parametrize("on_conflict", ["keep", "replace", "error"])
async def test_a_job_may_schedule_its_own_successor_under_its_key(start: Start, kind: str, on_conflict: Any) -> None:
    """The running job hands its key on: the successor is a new job, and the key still stands for one unfinished job."""
    namespace: Namespace[Any] = Namespace("chain")

    async def tick(ctx: Any, *, left: int) -> list[str]:
        options = {"key": "tick", "on_conflict": on_conflict}
        first = await ctx.scheduler.run_after(10, "chain:tick", {"left": left - 1}, **options) if left else ""
        again = await ctx.scheduler.run_after(10, "chain:tick", {"left": 0}, key="tick") if left else ""
        return [first, again]

    getattr(namespace, kind)(tick)
    h = await start(namespace)
    await h.scheduler.run_now("chain:tick", {"left": 3}, key="tick")
    ended = await h.advance(100)
    assert [job.state for job in ended] == ["success"] * 4
    ids = [job.id for job in ended]
    assert [job.result for job in ended] == [[successor, successor] for successor in [*ids[1:], ""]]


async def test_a_failed_mutation_does_not_hand_its_key_on(start: Start) -> None:
    """A successor that rolled back never was, so the key stays with the failed job, and is free."""
    namespace: Namespace[Any] = Namespace("chain")

    @namespace.mutation
    async def tick(ctx: MutationCtx) -> None:
        await ctx.scheduler.run_after(10, "chain:tick", key="tick")
        raise LookupError

    h = await start(namespace)
    job_id = await h.scheduler.run_now("chain:tick", key="tick")
    (job,) = await h.settle()
    assert (job.id, job.state, job.key) == (job_id, "failed", "tick")
    assert await h.pending() == []


async def test_a_nested_call_schedules_for_the_job_it_belongs_to(start: Start) -> None:
    """A helper mutation called by a job must know the job: as parent of what it schedules, and to hand its key on."""
    namespace: Namespace[Any] = Namespace("chain")

    @namespace.mutation
    async def again(ctx: MutationCtx) -> str:
        return await ctx.scheduler.run_after(10, "chain:tick", key="tick")

    @namespace.mutation
    async def tick(ctx: MutationCtx) -> str:
        return await ctx.run_mutation(again)

    h = await start(namespace)
    job_id = await h.scheduler.run_now("chain:tick", key="tick")
    await h.settle()
    assert [job.parent_id for job in await h.pending()] == [job_id]


async def test_a_replaced_job_comes_back_when_the_mutation_fails(start: Start) -> None:
    """A replacement inside a mutation that rolls back must leave the first job pending, and it must run."""
    namespace: Namespace[Any] = Namespace("swap")

    @namespace.mutation
    async def swap(ctx: MutationCtx) -> None:
        await ctx.scheduler.run_after(1, "work:note", {"n": 2}, key="k", on_conflict="replace")
        raise FunctionError("CONFLICT", "no")

    h = await start(work, namespace)
    await put(h, "app", 1, key="k")
    with pytest.raises(FunctionError, match="CONFLICT: no"):
        await h.call(swap)
    assert [(job.state, job.result) for job in await h.advance(30)] == [("success", 1)]


async def test_retrying_a_job_whose_key_is_taken_is_a_conflict(start: Start) -> None:
    """Retry must not make a second unfinished job under one key."""
    h = await start(work)
    failed = await put(h, "app", path="work:breaks", delay=0, key="k")
    await h.settle()
    await put(h, "app", key="k")
    with pytest.raises(KeyConflict, match="another unfinished job has taken this job's key"):
        await h.scheduler.retry(failed)
    await h.advance(30)
    assert await h.scheduler.retry(failed) is True


async def test_run_many_settles_keys_call_by_call(start: Start) -> None:
    """Calls under one key in one run_many are kept or replaced in their order; an error stores none of them."""
    h = await start(work)
    ids = await h.scheduler.run_many([note.bind(n=n).after(1, key="k") for n in range(3)])
    assert len(set(ids)) == 1
    with pytest.raises(KeyConflict):
        await h.scheduler.run_many([note.bind(n=7), note.bind(n=8).after(1, key="k", on_conflict="error")])
    assert [job.result for job in await h.advance(5)] == [0]


# ------------------------------------------------------------------ idempotency_key


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("state", ["pending", "in_progress", "success", "failed", "canceled"])
async def test_a_resend_in_any_state_is_the_same_job(start: Start, place: str, state: str) -> None:
    """The same idempotency key with the same call must give the same id and store nothing, whatever became of it."""
    h = await start(work)
    path = {"in_progress": "work:slow", "failed": "work:breaks"}.get(state, "work:note")
    first = await put(h, "app", 1, path=path, delay=1, idempotency_key="i")
    if state == "canceled":
        await h.scheduler.cancel(first)
    elif state != "pending":
        await h.advance(1)
    job = await h.scheduler.get(first)
    assert job is not None
    assert job.state == state
    for delay in (1, 100):
        assert await put(h, place, 1, path=path, delay=delay, idempotency_key="i") == first
    assert await h.scheduler.list().count() == 1
    assert (await h.scheduler.get(first)) == job


@pytest.mark.parametrize("place", PLACES)
async def test_the_same_idempotency_key_with_another_call_is_a_conflict(start: Start, place: str) -> None:
    """Other arguments or another function under a used key must raise, and store nothing."""
    h = await start(work)
    await put(h, "app", 1, idempotency_key="i")
    for n, path in ((2, "work:note"), (1, "work:slow")):
        with pytest.raises(KeyConflict, match="idempotency_key 'i' was used for work:note"):
            await put(h, place, n, path=path, idempotency_key="i")
    assert await h.scheduler.list().count() == 1


async def test_arguments_are_compared_as_stored(start: Start) -> None:
    """A resend that says the same in other types (a JSON client's text) must be the same call."""
    h = await start(work)
    first = await h.scheduler.run_after(5, "work:note", {"n": 7}, idempotency_key="i")
    assert await h.scheduler.run_after(5, "work:note", {"n": "7"}, idempotency_key="i") == first


async def test_an_idempotency_key_of_a_rolled_back_mutation_is_unused(start: Start) -> None:
    """What rolled back never was: the key must be free for other arguments."""
    namespace: Namespace[Any] = Namespace("undo")

    @namespace.mutation
    async def fails(ctx: MutationCtx) -> None:
        await ctx.scheduler.run_after(1, "work:note", {"n": 1}, idempotency_key="i")
        raise LookupError

    h = await start(work, namespace)
    with pytest.raises(LookupError):
        await h.call(fails)
    await put(h, "app", 2, idempotency_key="i")


# ------------------------------------------------------------------ live mutations under an idempotency key


async def test_a_live_mutation_takes_effect_once_under_its_key(start: Start) -> None:
    """The first success must answer every resend, without running again, across a crash too."""
    namespace: Namespace[Any] = Namespace("orders")
    ran: list[int] = []

    @namespace.mutation
    async def place(ctx: MutationCtx, *, amount: int) -> dict[str, int]:
        ran.append(amount)
        await ctx.db.execute("INSERT INTO log (what) VALUES (?)", [f"order {amount}"])
        return {"amount": amount}

    h = await start(namespace)
    for _ in range(2):
        assert await h.app.idempotent("o1").call(place, amount=3) == {"amount": 3}
        assert await h.app.idempotent("o1").call("orders:place", {"amount": "3"}) == {"amount": 3}
        await h.restart()
    assert ran == [3]
    with pytest.raises(KeyConflict, match="was used for orders:place with other arguments"):
        await h.app.idempotent("o1").call(place, amount=4)
    assert await h.app.idempotent("o2").call(place, amount=4) == {"amount": 4}


async def test_a_failed_live_mutation_leaves_its_key_unused(start: Start) -> None:
    """A failure must leave nothing, so that the resend runs."""
    namespace: Namespace[Any] = Namespace("orders")
    fail = [True]

    @namespace.mutation
    async def place(ctx: MutationCtx, *, amount: int) -> int:
        if fail[0]:
            raise FunctionError("UNAVAILABLE", "later")
        return amount

    h = await start(namespace)
    caller = h.app.idempotent("o1")
    with pytest.raises(FunctionError):
        await caller.call(place, amount=3)
    fail[0] = False
    assert await caller.call(place, amount=3) == 3
    assert await caller.call(place, amount=3) == 3


async def test_live_and_scheduled_keys_are_one_space(start: Start) -> None:
    """A live call under a scheduled job's key must not run it a second time."""
    h = await start(work)
    job_id = await put(h, "app", 1, idempotency_key="i")
    with pytest.raises(KeyConflict, match="belongs to a scheduled job that is pending"):
        await h.app.idempotent("i").call(note, n=1)
    await h.advance(5)
    assert await h.app.idempotent("i").call(note, n=1) == 1
    assert await h.app.idempotent("live").call(note, n=2) == 2
    live = await put(h, "app", 2, idempotency_key="live")
    assert [job.id for job in await h.runs() if job.id in (job_id, live)] == [job_id, live]
    assert len(await h.runs()) == 2


async def test_only_mutations_take_an_idempotency_key_live(start: Start) -> None:
    """A query or an action leaves no row to answer with, so it must be refused before it runs."""
    namespace: Namespace[Any] = Namespace("kinds")
    ran: list[str] = []

    @namespace.query
    async def look(ctx: QueryCtx) -> None:
        ran.append("query")

    @namespace.action
    async def act(ctx: ActionCtx) -> None:
        ran.append("action")

    h = await start(namespace)
    for fn in (look, act):
        with pytest.raises(WrongKind, match=r"only a mutation's outcome is .* under an idempotency key"):
            await h.app.idempotent("k").call(fn)
    assert ran == []


@pytest.mark.parametrize("key", ["", "k" * 257, None, 7, b"k"])
def test_a_live_key_is_checked(key: Any) -> None:
    """A key that can't be stored must be refused when it is given."""
    with pytest.raises(InvalidArgs, match=r"an idempotency key .* a str of 1 to 256 characters"):
        App("unused.db").idempotent(key)
