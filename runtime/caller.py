"""Something that calls functions as somebody: the app, with an identity and an idempotency key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from actor_scheduler.model import Args
    from runtime.functions import Function

P = ParamSpec("P")
R = TypeVar("R")


class Caller(Protocol):
    """Something that calls functions: the app, or the app acting as somebody."""

    @overload
    def call(self, fn: Function[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(self, path: str, args: Args | None = None, /) -> Coroutine[Any, Any, Any]: ...


class BoundCaller:
    """The app, with an identity and an idempotency key."""

    def __init__(
        self, call: Callable[[Any, Any, Any, Any, str | None], Awaitable[Any]], auth: Any, once: str | None
    ) -> None:
        self._call = call
        self._auth = auth
        self._once = once

    async def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run a function now and return what it returned."""
        return await self._call(fn, args, kwargs, self._auth, self._once)
