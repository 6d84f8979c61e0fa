"""App-scoped resources of actions: made once, when first used, and closed when the app stops."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeAlias

Provider: TypeAlias = Callable[[], Any]

log = logging.getLogger("actor_scheduler")


class Providers:
    """What `ctx.use` gives: one value for each provider."""

    def __init__(self, overrides: dict[Provider, Any]) -> None:
        self._overrides = overrides
        self._owned: dict[Provider, _Owned] = {}

    async def use(self, provider: Provider) -> Any:
        """Return the provider's value, made the first time. A failure is not remembered: the next use tries again."""
        if provider in self._overrides:
            return self._overrides[provider]
        owned = self._owned.get(provider)
        if owned is None:
            owned = self._owned[provider] = _Owned(provider)
        try:
            return await asyncio.shield(owned.value)  # a canceled user must not take it from the others
        except BaseException:
            if owned.failed:
                self._owned.pop(provider, None)
            raise

    async def close(self) -> None:
        """Run what the providers have after their `yield`, the last made first."""
        owned, self._owned = list(self._owned.values()), {}
        for one in reversed(owned):
            await one.close()


class _Owned:
    """One value, and the task that opens, keeps and closes it: cancel scopes must be left where they were entered."""

    def __init__(self, provider: Provider) -> None:
        self.value: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._task = asyncio.create_task(self._own(provider), name=f"provider {provider!r:.60}")

    @property
    def failed(self) -> bool:
        """Whether making the value raised."""
        return self.value.done() and (self.value.cancelled() or self.value.exception() is not None)

    async def _own(self, provider: Provider) -> None:
        try:
            async with _opened(provider) as value:
                self.value.set_result(value)
                await self._closing.wait()
        except BaseException as error:
            if self.value.done():
                log.exception("closing what %r gave failed", provider)
            elif isinstance(error, asyncio.CancelledError):
                self.value.cancel()
            else:
                self.value.set_exception(error)
            if isinstance(error, asyncio.CancelledError):
                raise

    async def close(self) -> None:
        """Close the value and wait for it; one that is still being made is given up."""
        if not self.value.done():
            self._task.cancel()
        self._closing.set()
        await asyncio.wait([self._task])


@contextlib.asynccontextmanager
async def _opened(provider: Provider) -> AsyncIterator[Any]:
    """Open what a provider gives: its one `yield`, what it awaits to, or what it returns."""
    if inspect.isasyncgenfunction(provider):
        provider = contextlib.asynccontextmanager(provider)
    made = provider()
    if isinstance(made, contextlib.AsyncContextDecorator) and isinstance(made, contextlib.AbstractAsyncContextManager):
        async with made as value:  # of @asynccontextmanager; another object may be a lock, which is not ours to enter
            yield value
    elif inspect.isawaitable(made):
        yield await made
    else:
        yield made
