"""The one path: every invocation, live or scheduled, is prepared and entered here; only the invoker differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.invoker import FunctionInvoker

if TYPE_CHECKING:
    from actor_scheduler.model import Args, Kind
    from runtime.context import Ctx
    from runtime.functions import Function
    from runtime.invoker import Invoker
    from runtime.registry import Registry


@dataclass(frozen=True, slots=True)
class Invocation:
    """A function that will run, with arguments it accepts, for an invoker that may call it."""

    function: Function[..., Any]
    args: dict[str, Any]
    invoker: Invoker
    auth: Any


def prepare(
    registry: Registry,
    path: str,
    args: Args | None,
    invoker: Invoker,
    auth: Any,
    *,
    kind: Kind | None = None,
) -> Invocation:
    """Resolve, authorize and validate: everything that can be wrong with a call before its body runs.

    Raises UnknownFunction, WrongKind, AccessDenied or InvalidArgs.
    """
    function = registry.resolve(path, kind=kind, invoker=invoker)
    return Invocation(function, function.arguments.validate(args or {}, function.path), invoker, auth)


async def invoke(invocation: Invocation, ctx: Ctx) -> Any:
    """Run the body with its ctx, and close the ctx when it ends, however it ends."""
    try:
        return await invocation.function.body(ctx, **invocation.args)
    finally:
        ctx._close()  # noqa: SLF001 - a ctx lives exactly as long as its invocation


def nested(invocation: Invocation) -> FunctionInvoker:
    """Return the invoker of what this invocation calls itself."""
    return FunctionInvoker(invocation.function.path)
