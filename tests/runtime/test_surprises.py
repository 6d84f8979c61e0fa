"""What would surprise a user: each of these was a bug once."""

from __future__ import annotations

import asyncio
import copy
import pickle
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from runtime import (
    ActionCtx,
    App,
    Call,
    FunctionError,
    InvalidArgs,
    InvalidTime,
    MutationCtx,
    Namespace,
    NotRegistrable,
    UnknownFunction,
)
from runtime.testing import Harness, simulate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.runtime.conftest import Start

jobs: Namespace[Any] = Namespace("jobs")


@jobs.mutation(aliases=["jobs:old"])
async def note(ctx: MutationCtx, *, n: int = 0) -> int:
    """Return its argument."""
    return n


async def test_no_moment_is_not_now(start: Start) -> None:
    """None as a delay or an instant must be refused: a missing deadline must not run the job at once."""
    h = await start(jobs)
    for attempt in (
        lambda: h.scheduler.run_after(None, "jobs:note"),  # type: ignore[call-overload]
        lambda: h.scheduler.run_at(None, "jobs:note"),  # type: ignore[call-overload]
        lambda: h.scheduler.run_many([note.bind().at(None)]),  # type: ignore[arg-type]
        lambda: h.scheduler.run_many([note.bind().after(None)]),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidTime):
            await attempt()


def test_a_mutation_has_no_concurrency_that_is_ignored() -> None:
    """An option that a kind does not honor must be refused by its decorator."""

    async def write(ctx: MutationCtx) -> None:
        pass

    with pytest.raises(NotRegistrable, match="a mutation takes no concurrency"):
        jobs.mutation(name="limited", concurrency=5)(write)  # type: ignore[call-overload]


async def test_a_retried_job_is_returned_when_it_ends_again(start: Start) -> None:
    """Settling and advancing must return every job that ended meanwhile, also one that had ended before."""
    namespace: Namespace[Any] = Namespace("flaky")
    failing = [True]

    @namespace.action
    async def work(ctx: ActionCtx) -> None:
        if failing[0]:
            raise LookupError

    h = await start(namespace)
    job_id = await h.scheduler.run_now("flaky:work")
    assert [job.state for job in await h.settle()] == ["failed"]
    failing[0] = False
    assert await h.scheduler.retry(job_id)
    assert [(job.id, job.state) for job in await h.settle()] == [(job_id, "success")]


async def test_a_canceled_first_user_of_a_provider_harms_nobody(start: Start) -> None:
    """An action that waits for a provider must get it, though the action that asked first was canceled."""
    namespace: Namespace[Any] = Namespace("uses")
    gate, making = asyncio.Event(), asyncio.Event()

    async def slow() -> str:
        making.set()
        await gate.wait()
        return "up"

    @namespace.action
    async def act(ctx: ActionCtx) -> str:
        return await ctx.use(slow)

    h = await start(namespace)
    first = asyncio.ensure_future(h.call(act))
    await making.wait()
    second = asyncio.ensure_future(h.call(act))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == "up"


async def test_a_provider_may_hold_a_task_group() -> None:
    """What follows the yield must run in the task that ran what comes before it, as anyio's scopes demand."""
    namespace: Namespace[Any] = Namespace("uses")

    async def group() -> AsyncIterator[Any]:
        async with anyio.create_task_group() as tasks:
            yield tasks

    @namespace.action
    async def act(ctx: ActionCtx) -> None:
        await ctx.use(group)

    async with Harness(App("unused.db", namespaces=[namespace])) as h:
        await h.scheduler.now().call(act)
        assert [job.state for job in await h.settle()] == ["success"]


async def test_an_asynccontextmanager_is_a_provider(start: Start) -> None:
    """The usual way to write a resource must be entered, not handed out unentered."""
    namespace: Namespace[Any] = Namespace("uses")

    @asynccontextmanager
    async def pool() -> AsyncIterator[str]:
        yield "pool"

    @namespace.action
    async def act(ctx: ActionCtx) -> str:
        return await ctx.use(pool)  # type: ignore[return-value]

    h = await start(namespace)
    assert await h.call(act) == "pool"


async def test_wait_with_no_time_left_gives_a_job_that_has_ended(start: Start) -> None:
    """A timeout of 0 asks for the job as it stands: one that has ended must be returned."""
    h = await start(jobs)
    job_id = await h.scheduler.run_now("jobs:note")
    await h.settle()
    assert (await h.scheduler.wait(job_id, timeout=0)).state == "success"


def test_the_idempotency_key_of_a_live_action_is_the_seeds() -> None:
    """On the harness the same seed must give the same keys."""
    namespace: Namespace[Any] = Namespace("keys")

    @namespace.action
    async def key(ctx: ActionCtx) -> str:
        return ctx.idempotency_key

    async def scenario(h: Harness) -> str:
        return await h.call(key)

    app = App("unused.db", namespaces=[namespace])
    assert simulate(app, scenario, seed=1) == simulate(app, scenario, seed=1)


async def test_a_list_of_a_function_shows_the_jobs_under_its_old_paths(start: Start) -> None:
    """A renamed function's backlog stands under the alias: asking for the function must show it."""
    before: Namespace[Any] = Namespace("jobs")

    @before.mutation
    async def old(ctx: MutationCtx, *, n: int = 0) -> int:
        return n

    h = await start(before)
    await h.scheduler.run_after(60, "jobs:old")
    await h.app._stop()
    h.app._registry._namespaces["jobs"] = jobs
    await h.app._start()
    assert await h.scheduler.list(fn=note).count() == 1
    assert len(await h.pending(note)) == 1


async def test_an_alias_finds_the_jobs_of_its_function(start: Start) -> None:
    """A path that schedules a function must also list its jobs."""
    h = await start(jobs)
    await h.scheduler.run_after(60, "jobs:old")
    assert await h.scheduler.list(fn="jobs:old").count() == 1


async def test_a_function_of_another_app_is_not_scheduled(start: Start) -> None:
    """As app.call does, `.call` must refuse a function that only shares a path with one of this app."""
    h = await start(jobs)

    async def twin(ctx: MutationCtx) -> None:
        pass

    with pytest.raises(UnknownFunction):
        await h.scheduler.now().call(Namespace("jobs").mutation(name="note")(twin))


async def test_an_argument_may_be_called_self(start: Start) -> None:
    """`bind` must take its own parameters by position only."""
    namespace: Namespace[Any] = Namespace("names")

    @namespace.mutation
    async def person(ctx: MutationCtx, *, self: int) -> int:
        return self

    h = await start(namespace)
    assert await h.call("names:person", {"self": 1}) == 1
    assert person.bind(self=1) == Call("names:person", {"self": 1})  # type: ignore[misc]


@pytest.mark.parametrize(
    "use",
    [
        lambda s: s.run_many(["jobs:note"]),
        lambda s: s.run_many([note]),
        lambda s: s.run_many(note.bind()),
        lambda s: s.run_now(Call(note)),
        lambda s: s.run_now(Call("jobs:note", [1])),
        lambda s: s.run_now("jobs:note", key="k", on_conflict=["keep"]),
        lambda s: s.wait(7),
        lambda s: s.list(fn=7).count(),
        lambda s: s.list(fn="\ud800").count(),
        lambda s: s.list(state="done").count(),
        lambda s: s.list().page(limit="5"),
        lambda s: s.list().page(cursor=7),
    ],
)
async def test_a_wrong_use_of_the_handle_is_told_in_our_words(start: Start, use: Any) -> None:
    """What has the wrong type must raise InvalidArgs and say what fits, not fail somewhere inside."""
    h = await start(jobs)
    with pytest.raises(InvalidArgs):
        await use(h.scheduler)


@pytest.mark.parametrize("through", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_function_error_can_be_copied(through: Any) -> None:
    """Errors travel between processes and are copied by tools: code, message and data must come along."""
    again = through(FunctionError("NOT_FOUND", "no post", {"id": 7}))
    assert (again.code, again.message, again.data, str(again)) == (
        "NOT_FOUND", "no post", {"id": 7}, "NOT_FOUND: no post",
    )  # fmt: skip


async def test_a_long_message_does_not_displace_the_traceback(start: Start) -> None:
    """The frames must stay when the error's text alone is longer than what is kept."""
    namespace: Namespace[Any] = Namespace("long")

    @namespace.mutation
    async def fails(ctx: MutationCtx) -> None:
        raise ValueError("x" * 20_000)

    h = await start(namespace)
    await h.scheduler.now().call(fails)
    (job,) = await h.settle()
    assert "test_surprises" in str(job.traceback)
