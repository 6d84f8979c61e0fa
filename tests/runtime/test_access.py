"""Who may call what: the source of a call against the access of a function."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from runtime import (
    AccessDenied,
    ActionCtx,
    FunctionInvoker,
    JobInvoker,
    LocalInvoker,
    MutationCtx,
    Namespace,
    QueryCtx,
    RpcInvoker,
    UnknownFunction,
    WrongKind,
)
from runtime.invoke import prepare
from runtime.invoker import may_call
from runtime.registry import Registry

if TYPE_CHECKING:
    from tests.runtime.conftest import Start

ACCESSES = ("public", "internal", "system")
ALLOWED = {
    "rpc": {"public"},
    "local": {"public", "internal"},
    "function": {"public", "internal"},
    "scheduler": {"public", "internal", "system"},
}
INVOKERS = (RpcInvoker(), LocalInvoker(), FunctionInvoker("a:b"), JobInvoker("id", 1, 0, 0, "id"))

doors: Namespace[Any] = Namespace("doors")


def _make(kind: str, access: str) -> None:
    async def body(ctx: Any) -> str:
        return ctx.invoker.source

    getattr(doors, kind)(name=f"{kind}_{access}", access=access)(body)


for _kind, _access in product(("query", "mutation", "action"), ACCESSES):
    _make(_kind, _access)


@doors.action(access="public")
async def forward(ctx: ActionCtx, *, kind: str, access: str) -> Any:
    """Call another function from an action."""
    return await getattr(ctx, f"run_{kind}")(f"doors:{kind}_{access}")


@doors.mutation(access="public")
async def forward_inside(ctx: MutationCtx, *, kind: str, access: str) -> Any:
    """Call another function from a mutation."""
    return await getattr(ctx, f"run_{kind}")(f"doors:{kind}_{access}")


@pytest.mark.parametrize(
    ("invoker", "access"), list(product(INVOKERS, ACCESSES)), ids=lambda p: getattr(p, "source", p)
)
def test_the_matrix_of_source_and_access(invoker: Any, access: Any) -> None:
    """Outside sees public only, the app and its functions also internal, the scheduler everything."""
    allowed = access in ALLOWED[invoker.source]
    assert may_call(invoker, access) is allowed
    registry = Registry()
    registry.include(doors)
    if allowed:
        assert prepare(registry, f"doors:query_{access}", {}, invoker, None).invoker is invoker
    else:
        match = f"access='{access}', so it can't be called by {invoker.source}"
        with pytest.raises(AccessDenied, match=match):
            prepare(registry, f"doors:query_{access}", {}, invoker, None)


@pytest.mark.parametrize(("kind", "access"), list(product(("query", "mutation", "action"), ACCESSES)))
async def test_the_app_and_its_functions_see_public_and_internal(start: Start, kind: str, access: str) -> None:
    """app.call, acting_as and ctx.run_… must refuse system functions, and run everything else."""
    h = await start(doors)
    path, given = f"doors:{kind}_{access}", {"kind": kind, "access": access}
    calls = [
        ("local", lambda: h.app.call(path)),
        ("local", lambda: h.app.acting_as("ann").call(path)),
        ("function", lambda: h.app.call("doors:forward", given)),
    ]
    if kind != "action":
        calls.append(("function", lambda: h.app.call("doors:forward_inside", given)))
    for source, call in calls:
        if access == "system":
            with pytest.raises(AccessDenied, match=f"by {source}"):
                await call()
        else:
            assert await call() == source


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("kind", ["mutation", "action"])
async def test_the_scheduler_sees_everything(start: Start, kind: str, access: str) -> None:
    """A function of any access can be scheduled by the app and runs."""
    h = await start(doors)
    await h.scheduler.run_now(f"doors:{kind}_{access}")
    assert [(job.state, job.result) for job in await h.settle()] == [("success", "scheduler")]


async def test_a_query_cannot_be_scheduled_by_any_way(start: Start) -> None:
    """Scheduling a query must be refused with what to do instead, wherever and however it is scheduled."""

    @doors_of_query.mutation
    async def schedules(ctx: MutationCtx) -> None:
        await ctx.scheduler.run_now("queries:look")

    h = await start(doors_of_query)
    for attempt in (
        lambda: h.scheduler.run_now("queries:look"),
        lambda: h.scheduler.run_after(1, "queries:look"),
        lambda: h.scheduler.run_at(0, "queries:look"),
        lambda: h.call("queries:schedules"),
    ):
        with pytest.raises(WrongKind, match="queries:look is a query: it changes nothing, so it can't be scheduled"):
            await attempt()
    assert await h.scheduler.list().count() == 0


doors_of_query: Namespace[Any] = Namespace("queries")


@doors_of_query.query
async def look(ctx: QueryCtx) -> None:
    """Look."""


@doors.action(access="public")
async def run_as(ctx: ActionCtx, *, kind: str, path: str) -> Any:
    """Run a function as a kind."""
    return await getattr(ctx, f"run_{kind}")(path)


async def test_run_of_another_kind_names_the_right_one(start: Start) -> None:
    """ctx.run_query of a mutation, and so on, must say which call fits."""
    h = await start(doors)
    for kind, other in product(("query", "mutation", "action"), repeat=2):
        work = h.call(run_as, kind=kind, path=f"doors:{other}_public")
        if kind == other:
            assert await work == "function"
        else:
            with pytest.raises(WrongKind, match=f"is an? {other}, not an? {kind}: use run_{other}"):
                await work


async def test_unknown_and_denied_functions_run_nothing(start: Start) -> None:
    """A call that is refused must not enter any body."""
    entered: list[str] = []
    namespace: Namespace[Any] = Namespace("secret")

    @namespace.mutation(access="system")
    async def work(ctx: MutationCtx) -> None:
        entered.append("work")

    h = await start(namespace)
    with pytest.raises(AccessDenied):
        await h.call(work)
    with pytest.raises(UnknownFunction):
        await h.call("secret:wrk")
    assert entered == []
