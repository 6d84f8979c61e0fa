"""The one path: every invocation, live or scheduled, is prepared and entered here; only the invoker differs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.invoker import FunctionInvoker

if TYPE_CHECKING:
    from actor_scheduler.model import Args, Kind
    from runtime.context import Ctx
    from runtime.functions import Function
    from runtime.invoker import Invoker
    from runtime.registry import Registry


class Invocation(NamedTuple):
    """A function that will run, with arguments it accepts, for an invoker that may call it."""

    function: Function[..., Any]
    args: dict[str, Any]
    invoker: Invoker
    auth: Any
    job_id: str | None = None  # the scheduled job on whose behalf this runs, also through other functions
    chain: int = 0  # of that job


def prepare(
    registry: Registry,
    path: str,
    args: Args | None,
    invoker: Invoker,
    auth: Any,
    *,
    kind: Kind | None = None,
    job_id: str | None = None,
) -> Invocation:
    """Resolve, authorize and validate: everything that can be wrong with a call before its body runs.

    Raises UnknownFunction, WrongKind, AccessDenied or InvalidArgs.
    """
    function = registry.resolve(path, kind=kind, invoker=invoker)
    validated = function.arguments.validate(args or {}, function.path)
    return Invocation(function, validated, invoker, auth, job_id)


async def invoke(invocation: Invocation, ctx: Ctx) -> Any:
    """Run the body with its ctx, and close the ctx when it ends, however it ends."""
    try:
        return await invocation.function.body(ctx, **invocation.args)
    finally:
        ctx._close()  # noqa: SLF001 - a ctx lives exactly as long as its invocation


def prepare_nested(registry: Registry, path: str, args: Args | None, caller: Invocation, kind: Kind) -> Invocation:
    """Prepare what an invocation calls itself: on behalf of the same identity and the same job. Raises as `prepare`."""
    invoker = FunctionInvoker(caller.function.path)
    called = prepare(registry, path, args, invoker, caller.auth, kind=kind, job_id=caller.job_id)
    return called._replace(chain=caller.chain) if caller.chain else called
