"""`ctx.use`: what actions share, made once for the app and closed when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from runtime import ActionCtx, App, ContextClosed, Namespace
from runtime.testing import Harness

if TYPE_CHECKING:
    from tests.runtime.conftest import Start


def using(provider: Any) -> Namespace[Any]:
    """Return a namespace with an action that uses a provider."""
    namespace: Namespace[Any] = Namespace("uses")

    @namespace.action
    async def act(ctx: ActionCtx, *, times: int = 1) -> list[Any]:
        return [await ctx.use(provider) for _ in range(times)]

    return namespace


async def test_a_provider_is_made_once_and_closed_when_the_app_stops() -> None:
    """Live and scheduled actions must share one value; what follows the yield runs at the stop, last made first."""
    events: list[str] = []

    async def pool() -> AsyncIterator[dict[str, str]]:
        events.append("open pool")
        yield {"is": "pool"}
        events.append("close pool")

    async def client() -> AsyncIterator[dict[str, str]]:
        events.append("open client")
        try:
            yield {"is": "client"}
        finally:
            events.append("close client")

    namespace: Namespace[Any] = Namespace("uses")
    values: list[Any] = []

    @namespace.action
    async def act(ctx: ActionCtx) -> None:
        values.extend([await ctx.use(pool), await ctx.use(client)])

    async with Harness(App("unused.db", namespaces=[namespace])) as h:
        assert events == []
        await h.call(act)
        await h.scheduler.now().call(act)
        await h.settle()
        await asyncio.gather(h.call(act), h.call(act))
        assert events == ["open pool", "open client"]
        assert [value["is"] for value in values] == ["pool", "client"] * 4
        assert all(value is values[at % 2] for at, value in enumerate(values))
    assert events == ["open pool", "open client", "close client", "close pool"]


@pytest.mark.parametrize("kill", [True, False])
async def test_a_restart_makes_providers_anew(start: Start, kill: bool) -> None:
    """A value belongs to one run of the app: after a restart it must be made again, and the old one closed."""
    events: list[str] = []

    async def pool() -> AsyncIterator[int]:
        events.append("open")
        yield len(events)
        events.append("close")

    h = await start(using(pool))
    assert await h.call("uses:act") == [1]
    await h.restart(kill=kill)
    assert await h.call("uses:act") == [3]
    assert events == ["open", "close", "open"]


async def test_a_plain_and_an_async_provider_are_made_once(start: Start) -> None:
    """A function and a coroutine function must do, and None is a value like any other."""
    made: list[str] = []

    def plain() -> None:
        made.append("plain")

    async def awaited() -> list[int]:
        made.append("awaited")
        return [1]

    for provider, value in ((plain, None), (awaited, [1])):
        h = await start(using(provider))
        assert await h.call("uses:act", {"times": 3}) == [value] * 3
    assert made == ["plain", "awaited"]


async def test_users_that_come_at_once_share_one_making(start: Start) -> None:
    """While a provider is being made, others must wait for it, not make a second one."""
    made: list[int] = []
    gate = asyncio.Event()

    async def slow() -> int:
        made.append(1)
        await gate.wait()
        return len(made)

    h = await start(using(slow))
    calls = [asyncio.ensure_future(h.call("uses:act")) for _ in range(5)]
    while not made:
        await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*calls) == [[1]] * 5


async def test_a_failed_making_is_told_and_tried_again(start: Start) -> None:
    """All who waited must get the error, and the next use must try again."""
    attempts: list[int] = []
    gate = asyncio.Event()

    async def flaky() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            await gate.wait()
            raise ConnectionError("refused")
        return "up"

    h = await start(using(flaky))
    calls = [asyncio.ensure_future(h.call("uses:act")) for _ in range(3)]
    while not attempts:
        await asyncio.sleep(0)
    gate.set()
    assert {repr(got) for got in await asyncio.gather(*calls, return_exceptions=True)} == {
        "ConnectionError('refused')",
    }
    assert await h.call("uses:act") == ["up"]
    assert len(attempts) == 2


async def test_a_canceled_first_user_does_not_harm_the_others(start: Start) -> None:
    """Whoever makes the value may be canceled; later uses must work, and others must not be canceled with it."""
    attempts: list[int] = []
    gate = asyncio.Event()

    async def slow() -> str:
        attempts.append(1)
        await gate.wait()
        return "up"

    h = await start(using(slow))
    first = asyncio.ensure_future(h.call("uses:act"))
    while not attempts:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(h.call("uses:act"))
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    (got,) = await asyncio.gather(second, return_exceptions=True)
    assert not isinstance(got, asyncio.CancelledError)
    assert await h.call("uses:act") == ["up"]


async def test_an_override_stands_while_the_harness_runs() -> None:
    """`override` must give its value instead of making one, over restarts, and be forgotten with the harness."""
    made: list[str] = []

    def client() -> str:
        made.append("real")
        return "real"

    app = App("unused.db", namespaces=[using(client)])
    async with Harness(app) as h:
        h.override(client, None)
        assert await h.call("uses:act") == [None]
        h.override(client, "fake")
        assert await h.call("uses:act") == ["fake"]
        await h.restart()
        assert await h.call("uses:act") == ["fake"]
        assert made == []
    async with Harness(app) as h:
        assert await h.call("uses:act") == ["real"]


async def test_a_kept_ctx_is_of_no_use(start: Start) -> None:
    """After its function ended, everything of an action's ctx that does something must raise ContextClosed."""
    namespace: Namespace[Any] = Namespace("keeps")
    kept: list[Any] = []

    @namespace.action
    async def act(ctx: ActionCtx) -> None:
        kept.append(ctx)

    h = await start(namespace)
    await h.call(act)
    (ctx,) = kept
    for use in (
        lambda: ctx.use(dict), lambda: ctx.sleep(0), lambda: ctx.run_action("keeps:act"), lambda: ctx.scheduler,
        lambda: ctx.run_mutation("keeps:act"), lambda: ctx.run_query("keeps:act"),
    ):  # fmt: skip
        with pytest.raises(ContextClosed, match="was used after the function ended"):
            await use()
