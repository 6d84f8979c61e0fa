"""Quotas: what one principal may call, how long that is remembered, and whom it does not concern."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from actor_scheduler.testing.clock import VirtualClock
from runtime import ActionCtx, App, InvalidArgs, MutationCtx, Overloaded, QueryCtx, Quota, UnknownFunction
from runtime import quota as module
from runtime.quota import Usage
from runtime.testing import Harness

SECOND = 1_000_000


class Shop:
    """An app with a quota, whose action runs until it is let go, and what of it has begun."""

    def __init__(self, quota: Quota[Any]) -> None:
        self.app: App[Any] = App("unused.db", quota=quota)
        self.go_on = asyncio.Event()
        self.began: list[str] = []
        ns = self.app.namespace("shop")

        @ns.action
        async def browse(ctx: ActionCtx) -> None:
            self.began.append(ctx.auth)
            await self.go_on.wait()

        @ns.mutation
        async def order(ctx: MutationCtx) -> str:
            self.began.append(ctx.auth)
            return str(ctx.auth)

        @ns.mutation
        async def orders(ctx: MutationCtx, *, count: int) -> None:
            for _ in range(count):
                await ctx.run_mutation(order)

        @ns.query
        async def look(ctx: QueryCtx) -> str:
            self.began.append(ctx.auth)
            return str(ctx.auth)

    async def call(self, who: Any, path: str = "shop:order", **args: Any) -> Any:
        return await self.app.acting_as(who).call(path, args)


async def test_calls_over_the_rate_are_refused_before_they_run() -> None:
    """So many within the period, for each kind of function; the next when the first is a period ago; each for himself."""
    shop = Shop(Quota(str, calls="3/10s"))
    async with Harness(shop.app) as h:
        assert await shop.call("ann") == "ann"
        await h.advance(4)
        assert await shop.call("ann", "shop:look") == "ann"
        assert await shop.app.idempotent("k", auth="ann").call("shop:order") == "ann"
        with pytest.raises(
            Overloaded, match=r"^over quota: 3 calls of this caller within 10 s; nothing ran, .* in 6 s$"
        ):
            await shop.call("ann")
        with pytest.raises(Overloaded):
            await shop.app.idempotent("l", auth="ann").call("shop:order")
        assert await shop.call("bob") == "bob"
        await h.advance(6)
        await shop.call("ann")
        with pytest.raises(Overloaded, match="in 4 s"):
            await shop.call("ann", "shop:look")
        assert shop.began == ["ann", "ann", "ann", "bob", "ann"]


async def test_calls_under_way_are_bounded_and_each_end_makes_room() -> None:
    """Whether a call returns, raises or is canceled by its caller, its place is free again; before, it is not."""
    shop = Shop(Quota(str, in_flight=2))
    async with Harness(shop.app):
        calls = [asyncio.ensure_future(shop.call("ann", "shop:browse")) for _ in range(2)]
        while len(shop.began) < 2:
            await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="^over quota: 2 calls of this caller are under way; nothing ran"):
            await shop.call("ann", "shop:browse")
        await shop.call("bob")
        calls[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calls[0]
        assert await shop.call("ann") == "ann"
        with pytest.raises(UnknownFunction):
            await shop.call("ann", "shop:nothing")
        assert await shop.call("ann") == "ann"
        shop.go_on.set()
        await calls[1]
        assert shop.began == ["ann", "ann", "bob", "ann", "ann"]


async def test_only_live_calls_with_an_identity_are_bounded() -> None:
    """Calls of nobody, of a principal that the key lets pass, of functions and of the scheduler are not counted."""
    shop = Shop(Quota(lambda auth: None if auth == "root" else auth, calls="1/d", in_flight=1))
    async with Harness(shop.app) as h:
        for _ in range(5):
            await h.call("shop:order")
            await shop.app.idempotent(f"k{_}").call("shop:order")
            await shop.call("root")
            await h.scheduler.run_now("shop:order")
        await h.settle()
        await shop.call("ann", "shop:orders", count=5)
        assert len(shop.began) == 25
        with pytest.raises(Overloaded):
            await shop.call("ann", "shop:orders", count=0)


async def test_what_the_key_raises_the_call_raises() -> None:
    """A key that fails, or gives what can't be compared, must not run the call, and must not count it."""

    def key(auth: Any) -> Any:
        return auth.missing if auth == "ann" else [auth]

    shop = Shop(Quota(key, calls="1/s"))
    async with Harness(shop.app):
        for _ in range(3):
            with pytest.raises(AttributeError, match="missing"):
                await shop.call("ann")
            with pytest.raises(TypeError, match="unhashable"):
                await shop.call("bob")
        assert shop.began == []


async def test_a_call_that_was_no_good_counts() -> None:
    """Bad arguments and unknown paths cost work too: they use up the rate."""
    shop = Shop(Quota(str, calls="2/s"))
    async with Harness(shop.app):
        with pytest.raises(InvalidArgs):
            await shop.call("ann", "shop:orders", count="x")
        with pytest.raises(UnknownFunction):
            await shop.call("ann", "shop:nothing")
        with pytest.raises(Overloaded):
            await shop.call("ann")


async def test_a_stepped_clock_neither_opens_nor_shuts_a_quota() -> None:
    """The rate goes by the time that passes, not by what the wall clock says."""
    shop = Shop(Quota(str, calls="1/10s"))
    async with Harness(shop.app) as h:
        await shop.call("ann")
        for step in (3600, -7200):
            h.clock.step(step * SECOND)
            with pytest.raises(Overloaded):
                await shop.call("ann")
        await h.advance(10)
        await shop.call("ann")


async def test_a_quota_begins_anew_with_each_start() -> None:
    """What was called before a restart is not counted: it has ended."""
    shop = Shop(Quota(str, calls="1/d", in_flight=1))
    async with Harness(shop.app) as h:
        for _ in range(3):
            await shop.call("ann")
            await h.restart(kill=False)


# ------------------------------------------------------------------ memory


def used(usage: Usage, who: object) -> None:
    with usage.admitted(who):
        pass


def test_idle_principals_are_forgotten() -> None:
    """Whoever has nothing under way, and called longer than a period ago, must not be kept."""
    clock = VirtualClock()
    usage = Usage(Quota(int, calls="2/10s"), clock)
    for who in range(100):
        used(usage, who)
    assert len(usage) == 100
    clock.move_to(clock.now_us() + 10 * SECOND)
    for _ in range(60):
        used(usage, 1000 + _ % 30)
    assert len(usage) == 30
    with_slots = Usage(Quota(int, in_flight=1), clock)
    for who in range(100):
        used(with_slots, who)
    assert len(with_slots) <= 2


def test_no_more_principals_are_remembered_than_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many, those that called last; whoever has a call under way is never forgotten."""
    monkeypatch.setattr(module, "PRINCIPALS_MAX", 50)
    usage = Usage(Quota(int, calls="1/d", in_flight=1), VirtualClock())
    with usage.admitted(-1):
        for who in range(500):
            used(usage, who)
            assert len(usage) <= 52
        with pytest.raises(Overloaded):
            used(usage, -1)
        with pytest.raises(Overloaded):
            used(usage, 499)
        used(usage, 0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Quota(str), "a quota bounds something"),
        (lambda: Quota(str, calls="fast"), "rate reads"),
        (lambda: Quota(str, in_flight=0), "in_flight is a whole number"),
        (lambda: Quota(str, in_flight=True), "in_flight is a whole number"),
        (lambda: Quota("id", calls="1/s"), "key is a plain function"),  # type: ignore[arg-type]
        (lambda: Quota(Harness.settle, calls="1/s"), "key is a plain function"),
    ],
)
def test_a_quota_that_bounds_nothing_is_refused(make: Callable[[], Any], said: str) -> None:
    """What can't work must be said where it is written."""
    with pytest.raises(InvalidArgs, match=said):
        make()
