"""Order: jobs start by fire time, then by order of acceptance, over mutations and actions together."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import ActionCtx, App, AuthRequest, Call, MutationCtx, Namespace
from runtime.testing import Harness, simulate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.runtime.conftest import Start

START = datetime(2026, 1, 1, tzinfo=UTC)


def recording() -> tuple[Namespace[Any], list[tuple[str, int]]]:
    """Return a namespace whose functions note their kind and number when their body begins."""
    namespace: Namespace[Any] = Namespace("order")
    began: list[tuple[str, int]] = []

    @namespace.mutation
    async def write(ctx: MutationCtx, *, n: int) -> None:
        began.append(("write", n))

    @namespace.action
    async def act(ctx: ActionCtx, *, n: int) -> None:
        began.append(("act", n))

    @namespace.mutation
    async def plan(ctx: MutationCtx, *, jobs: list[tuple[str, int, int]]) -> None:
        for name, delay, n in jobs:
            await ctx.scheduler.run_after(delay, f"order:{name}", {"n": n})

    return namespace, began


def check_order(began: list[tuple[str, int]], key: Callable[[int], tuple[int, int]]) -> None:
    """Assert the order of bodies: by key within a kind, and no action before a mutation that comes first.

    An action of the same turn begins after the turn's commit, so a mutation that comes after it may go first.
    """
    for kind in ("write", "act"):
        numbers = [n for name, n in began if name == kind]
        assert numbers == sorted(numbers, key=key)
    for at, (name, n) in enumerate(began):
        if name == "act":
            assert [m for other, m in began[at:] if other == "write" and key(m) < key(n)] == []


JOBS = st.lists(st.lists(st.tuples(st.sampled_from(["write", "act"]), st.integers(-3, 3)), max_size=6), max_size=5)


def number(groups: list[list[tuple[str, int]]]) -> list[list[tuple[str, int, int]]]:
    """Return the groups with each job's order of acceptance."""
    numbers = itertools.count()
    return [[(name, delay, next(numbers)) for name, delay in group] for group in groups]


@given(groups=JOBS)
@settings(max_examples=20, deadline=None)
def test_starts_go_by_fire_time_then_by_acceptance(groups: list[list[tuple[str, int]]]) -> None:
    """For any jobs of both kinds, scheduled by mutations in any groups: (fire time, acceptance) decides."""
    namespace, began = recording()
    numbered = number([[(name, abs(delay)) for name, delay in group] for group in groups])

    async def scenario(h: Harness) -> None:
        await asyncio.gather(*(h.call("order:plan", {"jobs": group}) for group in numbered))
        await h.advance(10)

    simulate(App("unused.db", namespaces=[namespace]), scenario)
    delays = {n: delay for group in numbered for _, delay, n in group}
    assert sorted(n for _, n in began) == sorted(delays)
    check_order(began, lambda n: (delays[n], n))


@given(groups=JOBS)
@settings(max_examples=20, deadline=None)
def test_past_instants_run_now_in_order_of_acceptance(groups: list[list[tuple[str, int]]]) -> None:
    """An instant in the past fires at acceptance: how long past it is must not let it overtake anybody."""
    namespace, began = recording()
    numbered = number(groups)

    async def scenario(h: Harness) -> None:
        calls = [
            Call(f"order:{name}", {"n": n}).at(START + timedelta(seconds=delay))
            for group in numbered
            for name, delay, n in group
        ]
        await h.scheduler.run_many(calls)
        await h.advance(10)

    simulate(App("unused.db", namespaces=[namespace]), scenario)
    delays = {n: max(delay, 0) for group in numbered for _, delay, n in group}
    assert sorted(n for _, n in began) == sorted(delays)
    check_order(began, lambda n: (delays[n], n))


async def test_overdue_jobs_of_an_outage_start_in_their_order(start: Start) -> None:
    """After a down time the backlog must run in order of fire time, as if nothing had happened."""
    namespace, began = recording()
    h = await start(namespace)
    delays = (50, 10, 40, 10, 30, 20)
    for n, delay in enumerate(delays):
        await h.scheduler.run_after(delay, f"order:{'act' if n % 2 else 'write'}", {"n": n})
    await h.restart(down_for=100)
    assert len(began) == len(delays)
    check_order(began, lambda n: (delays[n], n))
    jobs = await h.runs()
    assert {job.started_at for job in jobs} == {h.now}
    assert [job.scheduled_at for job in jobs] == [START + timedelta(seconds=delay) for delay in delays]


async def test_order_holds_while_identities_are_resolved() -> None:
    """With an auth resolver, which is awaited before each batch, mutations must still run in order."""
    namespace, began = recording()
    asked: list[str] = []

    async def resolve(request: AuthRequest) -> None:
        assert request.invoker.source == "scheduler"
        asked.append(request.invoker.job_id)
        for _ in range(7 - len(asked) % 7):  # the later ones are ready first
            await asyncio.sleep(0)

    async with Harness(App("unused.db", auth=resolve, namespaces=[namespace])) as h:
        await h.scheduler.run_many(Call("order:write", {"n": n}).after(n % 3) for n in range(20))
        await h.advance(5)
    assert [n for _, n in began] == sorted(range(20), key=lambda n: (n % 3, n))
    assert len(asked) == 20


async def test_a_mutation_sees_what_the_mutations_before_it_did(start: Start) -> None:
    """Due together, mutations run one after the other: each must see the writes of those before it."""
    namespace: Namespace[Any] = Namespace("count")

    @namespace.mutation
    async def count(ctx: MutationCtx) -> int:
        await ctx.db.execute("INSERT INTO log (what) VALUES (?)", [str(ctx.invoker)])
        return int(await ctx.db.fetch_value("SELECT count(*) FROM log"))

    h = await start(namespace)
    await h.scheduler.run_many(Call("count:count").after(1) for _ in range(30))
    ended = await h.advance(1)
    assert [job.result for job in sorted(ended, key=lambda job: job.id)] == list(range(1, 31))


@pytest.mark.parametrize("cancel_first", [True, False])
async def test_a_mutation_cancels_only_an_action_that_comes_after_it(start: Start, cancel_first: bool) -> None:
    """Due together, a mutation that was accepted before an action can still cancel it; one accepted after it can't."""
    namespace: Namespace[Any] = Namespace("race")
    ran: list[str] = []

    @namespace.action
    async def act(ctx: ActionCtx) -> None:
        ran.append("act")

    @namespace.mutation
    async def cancels(ctx: MutationCtx) -> bool:
        return await ctx.scheduler.cancel(key="act")

    h = await start(namespace)
    calls = [cancels.bind().after(5), act.bind().after(5, key="act")]
    await h.scheduler.run_many(calls if cancel_first else reversed(calls))
    ended = {job.path: job for job in await h.advance(5)}
    assert ended["race:cancels"].result is cancel_first
    assert ended["race:act"].state == ("canceled" if cancel_first else "success")
    assert ran == ([] if cancel_first else ["act"])
