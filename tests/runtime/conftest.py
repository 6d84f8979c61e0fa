"""Fixtures of the runtime's tests: apps on the harness, so that no test waits for real time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest

from runtime import App, Namespace
from runtime.testing import Harness

Start: TypeAlias = Callable[..., Awaitable[Harness]]

SCHEMA = "CREATE TABLE log (at INTEGER PRIMARY KEY, what TEXT NOT NULL UNIQUE)"


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start an app of these namespaces, or this app, on a harness that ends with the test."""
    async with AsyncExitStack() as stack:

        async def enter(*parts: Namespace[Any] | App[Any], **options: Any) -> Harness:
            (app,) = parts if parts and isinstance(parts[0], App) else (App("unused.db", namespaces=parts),)
            assert isinstance(app, App)
            app.schema(SCHEMA)
            return await stack.enter_async_context(Harness(app, **options))

        yield enter
