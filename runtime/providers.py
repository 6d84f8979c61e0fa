"""App-scoped resources of actions: made once, when first used, and closed when the app stops."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

Provider: TypeAlias = Callable[[], Any]


class Providers:
    """What `ctx.use` gives: one value for each provider."""

    def __init__(self, overrides: dict[Provider, Any]) -> None:
        self._overrides = overrides
        self._made: dict[Provider, asyncio.Future[Any]] = {}
        self._open = contextlib.AsyncExitStack()

    async def use(self, provider: Provider) -> Any:
        """Return the provider's value, made the first time. A failure is not remembered: the next use tries again."""
        if provider in self._overrides:
            return self._overrides[provider]
        making = self._made.get(provider)
        if making is None:
            making = self._made[provider] = asyncio.get_running_loop().create_future()
            try:
                making.set_result(await self._make(provider))
            except BaseException as error:
                del self._made[provider]
                making.set_exception(
                    error if isinstance(error, Exception) else RuntimeError("the first use was stopped")
                )
                making.exception()  # seen: whoever waits gets it, nobody else needs it
                raise
        return await asyncio.shield(making)

    async def _make(self, provider: Provider) -> Any:
        if inspect.isasyncgenfunction(provider):
            return await self._open.enter_async_context(contextlib.asynccontextmanager(provider)())
        made = provider()
        if inspect.isawaitable(made):
            return await made
        return made

    async def close(self) -> None:
        """Run what the providers have after their `yield`, the last made first."""
        self._made.clear()
        await self._open.aclose()
