"""Who caused a call, and as whom: ctx.invoker and ctx.auth in every situation."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runtime import (
    ActionCtx,
    App,
    AuthRequest,
    FunctionError,
    FunctionInvoker,
    JobInvoker,
    LocalInvoker,
    MutationCtx,
    Namespace,
    QueryCtx,
)
from runtime.testing import Harness

if TYPE_CHECKING:
    from tests.runtime.conftest import Start

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class User:
    """An identity."""

    name: str


def witnesses() -> tuple[Namespace[User], list[tuple[str, Any, Any]]]:
    """Return functions of all kinds that note who called them, directly and through one another."""
    namespace: Namespace[User] = Namespace("seen")
    seen: list[tuple[str, Any, Any]] = []

    @namespace.query
    async def look(ctx: QueryCtx[User]) -> None:
        seen.append(("look", ctx.invoker, ctx.auth))

    @namespace.mutation
    async def write(ctx: MutationCtx[User], *, deep: bool = False) -> None:
        seen.append(("write", ctx.invoker, ctx.auth))
        if deep:
            await ctx.run_query(look)
            await ctx.run_mutation(write)

    @namespace.action
    async def act(ctx: ActionCtx[User], *, deep: bool = False) -> str:
        seen.append(("act", ctx.invoker, ctx.auth))
        if deep:
            await ctx.run_query(look)
            await ctx.run_mutation(write, deep=True)
            await ctx.run_action(act)
        return ctx.idempotency_key

    return namespace, seen


async def test_a_live_call_is_local_and_what_it_calls_is_a_function(start: Start) -> None:
    """app.call must be a user's local call; every nested call must name the function that made it."""
    namespace, seen = witnesses()
    h = await start(namespace)
    for path in ("look", "write", "act"):
        await h.call(f"seen:{path}", {"deep": True} if path != "look" else {})
    local, by_write, by_act = LocalInvoker(), FunctionInvoker("seen:write"), FunctionInvoker("seen:act")
    assert [(name, invoker) for name, invoker, _ in seen] == [
        ("look", local),
        ("write", local), ("look", by_write), ("write", by_write),
        ("act", local), ("look", by_act), ("write", by_act), ("look", by_write), ("write", by_write), ("act", by_act),
    ]  # fmt: skip
    assert (local.type, local.source, by_act.type, by_act.source) == ("user", "local", "function", "function")


@pytest.mark.parametrize("name", ["write", "act"])
async def test_a_scheduled_run_knows_its_job(start: Start, name: str) -> None:
    """A job's run must know its id, attempt, asked and real time and occurrence; nested calls are a function's."""
    namespace, seen = witnesses()
    h = await start(namespace)
    job_id = await h.scheduler.run_at(START - timedelta(hours=1), f"seen:{name}", {"deep": True})
    await h.advance(seconds=5)
    _, invoker, auth = seen[0]
    assert isinstance(invoker, JobInvoker)
    assert (invoker.type, invoker.source, invoker.attempt) == ("system", "scheduler", 1)
    assert (invoker.job_id, invoker.occurrence_id) == (job_id, job_id)
    assert (invoker.scheduled_at, invoker.dispatched_at) == (START - timedelta(hours=1), START)
    assert invoker.scheduled_at.tzinfo is not None
    assert auth is None
    assert all(isinstance(nested, FunctionInvoker) for _, nested, _ in seen[1:])
    assert len(seen) > 2


async def test_an_actions_idempotency_key_is_its_occurrence_or_its_own(start: Start) -> None:
    """Scheduled it must be the occurrence id, the same over retries; live it must be a key of this call, never None."""
    namespace: Namespace[Any] = Namespace("keys")
    keys: list[str] = []

    @namespace.action
    async def act(ctx: ActionCtx) -> None:
        keys.extend([ctx.idempotency_key, ctx.idempotency_key])
        raise FunctionError("NO", "again")

    h = await start(namespace)
    job_id = await h.scheduler.run_now("keys:act")
    await h.settle()
    await h.scheduler.retry(job_id)
    await h.settle()
    assert keys == [job_id] * 4
    for _ in range(2):
        with pytest.raises(FunctionError):
            await h.call(act)
    first, again, second, _ = keys[4:]
    assert first == again
    assert first not in ("", second, job_id)


# ------------------------------------------------------------------ identity


async def test_a_live_call_acts_as_whom_the_app_says(start: Start) -> None:
    """acting_as must reach the function and all it calls, and nobody else; the resolver is not asked for live calls."""
    namespace, seen = witnesses()
    asked: list[AuthRequest] = []

    async def resolve(request: AuthRequest) -> User:
        asked.append(request)
        return User("resolved")

    h = await start(App("unused.db", auth=resolve, namespaces=[namespace]))
    ann, bob = h.app.acting_as(User("ann")), h.app.acting_as(User("bob"))
    await asyncio.gather(ann.call("seen:act", {"deep": True}), bob.call("seen:write"), h.app.call("seen:look"))
    users = [(name, auth) for name, _, auth in seen]
    assert users.count(("write", User("bob"))) == 1
    assert users.count(("look", None)) == 1
    assert len([auth for _, auth in users if auth == User("ann")]) == len(users) - 2 == 6
    assert asked == []


async def test_a_scheduled_run_acts_as_the_resolver_says(start: Start) -> None:
    """Identity is not stored: the resolver must be asked for every run, with source scheduler."""
    namespace, seen = witnesses()
    asked: list[AuthRequest] = []

    async def resolve(request: AuthRequest) -> User | None:
        await asyncio.sleep(0)
        asked.append(request)
        assert request.invoker.source == "scheduler"
        return User(f"robot {request.invoker.attempt}")

    h = await start(App("unused.db", auth=resolve, namespaces=[namespace]))
    caller: Any = h.app.acting_as(User("ann"))
    await caller.call("seen:look")
    ids = [await h.scheduler.run_now("seen:write", {"deep": True}), await h.scheduler.run_now("seen:act")]
    await h.settle()
    assert sorted(request.invoker.job_id for request in asked if request.invoker.source == "scheduler") == sorted(ids)
    assert [dict(request.headers) for request in asked] == [{}, {}]
    assert {auth for _, _, auth in seen[1:]} == {User("robot 1")}


@pytest.mark.parametrize("name", ["write", "act"])
async def test_a_resolver_that_raises_fails_the_job_only(start: Start, name: str) -> None:
    """The job must fail with the resolver's error, unentered; others go on, and a retry asks again."""
    namespace, seen = witnesses()
    broken = [True]

    async def resolve(request: AuthRequest) -> User | None:
        assert request.invoker.source == "scheduler"
        if broken[0] and request.invoker.job_id == bad:
            raise PermissionError("directory is down")
        return None

    bad = ""
    h = await start(App("unused.db", auth=resolve, namespaces=[namespace]))
    bad = await h.scheduler.run_after(1, f"seen:{name}")
    good = await h.scheduler.run_after(1, f"seen:{name}")
    await h.advance(1)
    jobs = {job.id: job async for job in h.scheduler.list()}
    assert (jobs[bad].state, jobs[bad].cause) == ("failed", "error")
    assert jobs[bad].error == "PermissionError: directory is down"
    assert jobs[good].state == "success"
    assert len(seen) == 1
    broken[0] = False
    assert await h.scheduler.retry(bad)
    await h.settle()
    assert len(seen) == 2


async def test_a_falsy_identity_is_kept_as_it_is(start: Start) -> None:
    """0 and "" are identities; only None means nobody."""
    namespace: Namespace[Any] = Namespace("who")

    @namespace.query
    async def who(ctx: QueryCtx) -> Any:
        return [ctx.auth]

    h = await start(namespace)
    for identity in (0, "", False, {}):
        assert await h.app.acting_as(identity).call(who) == [identity]


async def test_a_job_scheduled_by_a_job_knows_its_parent(start: Start) -> None:
    """parent_id must be the job that scheduled, whichever kind, and None for what the app or a live call scheduled."""
    namespace: Namespace[Any] = Namespace("family")

    @namespace.mutation
    async def child(ctx: MutationCtx) -> None:
        pass

    @namespace.mutation
    async def mother(ctx: MutationCtx) -> str:
        return await ctx.scheduler.run_now(child.bind())

    @namespace.action
    async def father(ctx: ActionCtx) -> str:
        return await ctx.scheduler.run_now(child.bind())

    async with Harness(App("unused.db", namespaces=[namespace])) as h:
        for parent in (mother, father):
            live = await h.scheduler.get(await h.app.call(parent))
            assert live is not None
            assert live.parent_id is None
            job_id = await h.scheduler.now().call(parent)
            await h.settle()
            job = await h.scheduler.get(job_id)
            assert job is not None
            born = await h.scheduler.get(job.result)
            assert born is not None
            assert born.parent_id == job_id
