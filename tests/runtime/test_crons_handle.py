"""Crons at run time, through ctx.crons and app.crons: registered, changed, paused, run, looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import (
    ActionCtx,
    App,
    ContextClosed,
    Cron,
    Crons,
    Every,
    ForgottenAwait,
    InvalidArgs,
    InvalidCron,
    InvalidTime,
    LimitExceeded,
    MutationCtx,
    Namespace,
    NotStarted,
    QueryCtx,
    UnknownCron,
)
from runtime.testing import START, Harness, simulate

if TYPE_CHECKING:
    from tests.runtime.conftest import Start

LAWS = settings(max_examples=20, deadline=None, derandomize=True, database=None)
HOUR = timedelta(hours=1)

Body = "Callable[[Any], Awaitable[Any]]"


class Desk:
    """Functions whose bodies a test gives, and one that counts its runs."""

    def __init__(self) -> None:
        self.namespace: Namespace[Any] = Namespace("desk")
        self.ran: list[tuple[str | None, int]] = []
        self.body: Any = None

        @self.namespace.mutation
        async def remind(ctx: MutationCtx, *, user: int = 0) -> None:
            self.ran.append((getattr(ctx.invoker, "cron", None), user))

        @self.namespace.action
        async def mail(ctx: ActionCtx, *, user: int, note: str = "") -> None:
            self.ran.append((getattr(ctx.invoker, "cron", None), user))

        @self.namespace.mutation
        async def mutate(ctx: MutationCtx) -> Any:
            return await self.body(ctx)

        @self.namespace.mutation
        async def outer(ctx: MutationCtx) -> str:
            try:
                await ctx.run_mutation("desk:mutate")
            except ValueError:
                return "caught"
            return "went on"

        @self.namespace.action
        async def act(ctx: ActionCtx) -> Any:
            return await self.body(ctx)

        self.remind, self.mail = remind, mail

    def app(self) -> App[Any]:
        """Return an app with these functions, and a cron of the code's."""
        app = App("unused.db", namespaces=[self.namespace])
        app.crons.cron("code", "0 0 1 1 *", self.remind)
        return app

    async def inside(self, h: Harness[Any], where: str, body: Any) -> Any:
        """Run a body with the crons of a mutation, of an action, or of the app."""
        if where == "app":
            return await body(h)
        self.body = body
        return await h.call(f"desk:{where}")


PLACES = ["app", "mutate", "act"]


async def names(crons: Crons, prefix: str = "") -> list[str]:
    """Return the names of the crons that were registered."""
    return [info.name async for info in crons.list(prefix=prefix) if info.origin == "runtime"]


# ------------------------------------------------------------------ laws

ops = st.tuples(
    st.sampled_from(["register", "register", "update", "delete", "pause", "resume"]),
    st.sampled_from("abc"),
    st.integers(1, 3),
)
groups = st.lists(st.tuples(st.sampled_from([*PLACES, "fails", "kill"]), st.lists(ops, max_size=5)), max_size=8)


class Model:
    """What the crons must be: by name, how many hours, and whether it is paused."""

    def __init__(self) -> None:
        self.crons: dict[str, tuple[int, bool]] = {}

    def apply(self, what: str, name: str, hours: int) -> object:
        """Do one thing, and return its answer."""
        had = self.crons.get(name)
        match what:
            case "register":
                self.crons[name] = (hours, had is not None and had[1])
            case "delete":
                return self.crons.pop(name, None) is not None
            case _ if had is None:
                return UnknownCron
            case "update":
                self.crons[name] = (hours, had[1])
            case "pause" | "resume":
                self.crons[name] = (had[0], what == "pause")
        return None


async def real(crons: Crons, what: str, name: str, hours: int) -> object:
    """Do the same with the handle."""
    try:
        match what:
            case "register":
                return await crons.register(name, Every(hours=hours), "desk:remind", {"user": hours})
            case "update":
                return await crons.update(name, schedule=Every(hours=hours))
            case "delete":
                return await crons.delete(name)
            case "pause":
                return await crons.pause(name, note="n")
            case _:
                return await crons.resume(name)
    except UnknownCron:
        return UnknownCron


async def standing(crons: Crons) -> dict[str, tuple[int, bool]]:
    """Return what the crons are."""
    return {
        info.name: (info.schedule.every_us // 3_600_000_000, info.paused)
        async for info in crons.list()
        if isinstance(info.schedule, Every)
    }


@LAWS
@given(groups)
def test_crons_are_what_was_said_of_them(lives: list[tuple[str, list[tuple[str, str, int]]]]) -> None:
    """In a mutation all of it must hold or nothing, elsewhere each call by itself; over crashes too."""
    desk, model = Desk(), Model()

    async def scenario(h: Harness[Any]) -> None:
        for where, steps in lives:
            if where == "kill":
                await h.restart(kill=True)
            before = dict(model.crons)

            async def body(ctx: Any, where: str = where, steps: Any = steps, before: Any = before) -> None:
                for step in steps:
                    assert await real(ctx.crons, *step) == model.apply(*step)
                    assert await standing(ctx.crons) == model.crons
                if where == "fails":
                    model.crons = before
                    raise ValueError("undo")

            if where == "fails":
                with pytest.raises(ValueError, match="undo"):
                    await desk.inside(h, "mutate", body)
            else:
                await desk.inside(h, "app" if where == "kill" else where, body)
            assert await standing(h.crons) == model.crons

    simulate(desk.app(), scenario)


@LAWS
@given(
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from(["pass", "pass", "pause", "resume", "kill"])), max_size=10),
    st.sampled_from(["latest", "all", "skip"]),
    st.integers(1, 3),
)
def test_every_tick_ran_or_was_skipped(lives: list[tuple[int, str]], policy: Any, cap: int) -> None:
    """Whatever happens to a cron, each of its ticks must stand in its history once: as a run, or in a counted skip."""
    desk = Desk()

    async def scenario(h: Harness[Any]) -> None:
        schedule = Every(hours=4)
        await h.crons.register("c", schedule, "desk:remind", missed_tick_policy=policy, max_catch_up_ticks=cap)
        for hours, what in lives:
            if what == "kill":
                await h.restart(down_for=hours * HOUR)
                continue
            if what == "pause":
                await h.crons.pause("c")
            elif what == "resume":
                await h.crons.resume("c")
            await h.advance(hours=hours)
        await h.crons.resume("c")
        await h.advance(hours=4)
        found: list[datetime] = []
        told = 0
        for run in reversed(await h.crons.runs("c", limit=1000)):
            ticks = 1 if run.state != "skipped" else run.skipped
            assert run.tick - run.first_tick == (ticks - 1) * 4 * HOUR
            assert (run.state == "skipped") == (run.reason is not None)
            found += [run.first_tick + n * 4 * HOUR for n in range(ticks)]
            told += run.skipped if run.state != "skipped" else -run.skipped
        assert sorted(found) == [START + n * 4 * HOUR for n in range(len(found))]
        assert (h.now - START) // (4 * HOUR) + 1 == len(found)
        assert told <= 0  # what the last runs are told of may still be owed
        assert len(desk.ran) == len([run for run in await h.crons.runs("c", limit=1000) if run.state == "success"])

    simulate(desk.app(), scenario)


# ------------------------------------------------------------------ registering


@pytest.mark.parametrize("where", PLACES)
async def test_a_registered_cron_runs_wherever_it_was_registered(start: Start, where: str) -> None:
    """With its arguments, from its next tick on, over a restart."""
    desk = Desk()
    h = await start(desk.app())

    async def body(ctx: Any) -> None:
        await ctx.crons.register("reminder/42/daily", Cron("0 9 * * *"), desk.mail.bind(user=42), description="d")

    await desk.inside(h, where, body)
    await h.restart()
    await h.advance(days=2)
    assert desk.ran == [("reminder/42/daily", 42)] * 2
    info = await h.crons.get("reminder/42/daily")
    assert info is not None
    assert info.spec is not None
    assert (info.path, info.args, info.origin, info.spec.description) == ("desk:mail", {"user": 42}, "runtime", "d")
    assert (info.paused, info.note, info.trouble) == (False, "", None)
    assert info.next_at == START + 57 * HOUR
    assert info.accounted_to == START + 33 * HOUR
    assert info.anchored_at == START


async def test_registering_again_changes_nothing(start: Start) -> None:
    """The same again must leave the next tick; another schedule is computed from now; an interval runs at once."""
    desk = Desk()
    h = await start(desk.app())
    for n in range(3):
        await h.crons.register("i", Every(hours=5), "desk:remind", {"user": 1}, overlap="queue")
        await h.advance(hours=1)
        info = await h.crons.get("i")
        assert info is not None
        assert info.next_at == START + 5 * HOUR, n
    await h.crons.register("i", Every(hours=5), "desk:remind", {"user": 2}, overlap="queue")
    info = await h.crons.get("i")
    assert info is not None
    assert (info.next_at, info.args) == (START + 5 * HOUR, {"user": 2})
    await h.crons.register("i", Every(hours=2), "desk:remind", {"user": 2})
    info = await h.crons.get("i")
    assert info is not None
    assert info.next_at in (START + 3 * HOUR, START + 5 * HOUR)
    assert desk.ran[0] == ("i", 1)


@pytest.mark.parametrize("where", PLACES)
async def test_what_is_wrong_is_said_before_anything_is_stored(start: Start, where: str) -> None:
    """All wrong fields at once; target and arguments by the functions of this app; then there is no such cron."""
    desk = Desk()
    h = await start(desk.app())

    async def body(ctx: Any) -> list[str]:
        crons, said = ctx.crons, []
        for call in (
            lambda: crons.register("", "x", 3, overlap="no"),
            lambda: crons.register("a", Every(hours=1), "desk:remnd"),
            lambda: crons.register("a", Every(hours=1), "desk:mail", {"user": "x"}),
            lambda: crons.update("code"),
            lambda: crons.update("code", schedule=3, target=3, jitter=-1, retry=1),
        ):
            with pytest.raises(InvalidCron) as caught:
                await call()
            said.append(" ".join(line.split(": ")[1] for line in str(caught.value).split("\n")))
        return said

    assert await desk.inside(h, where, body) == [
        "name schedule target overlap", "target", "args", "update", "schedule target jitter retry",
    ]  # fmt: skip
    assert await names(h.crons) == []


@pytest.mark.parametrize("where", PLACES)
async def test_crons_of_the_code_are_only_paused_and_run(start: Start, where: str) -> None:
    """They must not be registered over, changed or deleted at run time; what is refused says where to do it."""
    desk = Desk()
    h = await start(desk.app())

    async def body(ctx: Any) -> None:
        for call in (
            lambda: ctx.crons.register("code", Every(hours=1), "desk:remind"),
            lambda: ctx.crons.update("code", schedule=Every(hours=1)),
            lambda: ctx.crons.delete("code"),
        ):
            with pytest.raises(InvalidCron, match="'code' is defined in the code"):
                await call()
        await ctx.crons.pause("code", note="holiday")
        info = await ctx.crons.get("code")
        assert (info.paused, info.note, info.next_at) == (True, "holiday", None)
        await ctx.crons.resume("code")
        assert await ctx.crons.run_now("code")

    await desk.inside(h, where, body)
    await h.settle()
    assert desk.ran == [("code", 0)]


# ------------------------------------------------------------------ changing


async def test_an_update_keeps_what_is_not_given(start: Start) -> None:
    """A path keeps the arguments, if they fit; a bound call brings its own; options stay."""
    desk = Desk()
    h = await start(desk.app())
    await h.crons.register("a", Cron("0 9 * * *"), "desk:mail", {"user": 3}, jitter=9, overlap="queue")

    async def now() -> tuple[Any, ...]:
        info = await h.crons.get("a")
        assert info is not None
        assert info.spec is not None
        return info.path, info.args, info.schedule, info.spec.jitter_us, info.spec.rule.overlap, info.spec.kind

    await h.crons.update("a", target="desk:remind")
    assert await now() == ("desk:remind", {"user": 3}, Cron("0 9 * * *"), 9_000_000, "queue", "mutation")
    await h.crons.update("a", target=desk.mail.bind(user=4, note="n"), overlap="allow")
    assert await now() == ("desk:mail", {"user": 4, "note": "n"}, Cron("0 9 * * *"), 9_000_000, "allow", "action")
    with pytest.raises(InvalidCron, match="cron 'a': args: .*note"):
        await h.crons.update("a", target="desk:remind")
    with pytest.raises(InvalidCron, match="cron 'a': target: no function"):
        await h.crons.update("a", target="desk:nobody")
    with pytest.raises(InvalidCron, match="cron 'a': jitter: an outside clock"):
        await h.crons.update("a", clock="external")
    with pytest.raises(UnknownCron, match="'b'"):
        await h.crons.update("b", clock="external")
    assert await now() == ("desk:mail", {"user": 4, "note": "n"}, Cron("0 9 * * *"), 9_000_000, "allow", "action")
    await h.crons.update("a", target=desk.remind, schedule=Every(hours=2), jitter=None)
    assert await now() == ("desk:remind", {}, Every(hours=2), 0, "allow", "mutation")


async def test_only_a_schedule_moves_the_ticks(start: Start) -> None:
    """Other words must leave an interval where it is; a schedule that is given, the same too, counts from now."""
    desk = Desk()
    h = await start(desk.app())
    await h.crons.register("i", Every(hours=5), "desk:remind")
    await h.advance(hours=2)
    for change, hours in (({"description": "d"}, 5), ({"target": "desk:remind"}, 5), ({"schedule": Every(hours=5)}, 7)):
        await h.crons.update("i", **change)
        info = await h.crons.get("i")
        assert info is not None
        assert info.next_at == START + hours * HOUR


async def test_a_run_may_delete_its_own_cron(start: Start) -> None:
    """The run must end well, nothing runs after it, and its history stays."""
    desk = Desk()

    async def once(ctx: Any) -> bool:
        assert ctx.invoker.cron == "once"
        return await ctx.crons.delete("once")

    desk.body = once
    h = await start(desk.app())
    for path in ("desk:mutate", "desk:act"):
        await h.crons.register("once", Every(hours=1), path)
        await h.advance(hours=5)
        assert await h.crons.get("once") is None
        assert not await h.crons.delete("once")
        runs = await h.crons.runs("once")
        assert {run.state for run in runs} == {"success"}
    assert len(runs) == 2


async def test_a_mutation_that_fails_has_changed_no_cron(start: Start) -> None:
    """Its crons must roll back with it, those of a nested one with that one alone."""
    desk = Desk()
    h = await start(desk.app())

    async def body(ctx: Any) -> None:
        await ctx.crons.register("a", Every(hours=1), "desk:remind")
        await ctx.crons.run_now("code")
        assert await names(ctx.crons) == ["a"]
        raise ValueError("undo")

    with pytest.raises(ValueError, match="undo"):
        await desk.inside(h, "mutate", body)
    desk.body = body
    assert await h.call("desk:outer") == "caught"
    await h.advance(hours=2)
    assert await names(h.crons) == []
    assert desk.ran == []


async def test_a_forgotten_await_fails_the_mutation(start: Start) -> None:
    """Each call that changes or reads a cron and is not awaited must be found."""
    desk = Desk()
    h = await start(desk.app())
    for forget in (
        lambda crons: crons.register("a", Every(hours=1), "desk:remind"),
        lambda crons: crons.update("code", overlap="skip"),
        lambda crons: crons.delete("code"),
        lambda crons: crons.pause("code"),
        lambda crons: crons.resume("code"),
        lambda crons: crons.run_now("code"),
        lambda crons: crons.get("code"),
        lambda crons: crons.runs("code"),
    ):

        async def body(ctx: Any, forget: Any = forget) -> None:
            forget(ctx.crons)

        with pytest.raises(ForgottenAwait, match="forgot await"):
            await desk.inside(h, "mutate", body)


@pytest.mark.parametrize("where", ["mutate", "act"])
async def test_one_call_changes_a_thousand_crons_at_most(start: Start, where: str) -> None:
    """The limits of what one call schedules must hold for crons, too: their number, and their arguments in all."""
    desk = Desk()
    h = await start(desk.app())

    async def many(ctx: Any) -> None:
        for n in range(1000):
            await ctx.crons.delete(f"c{n}")
        await ctx.crons.get("code")
        with pytest.raises(LimitExceeded, match="at most 1000 crons"):
            await ctx.crons.delete("c")

    async def large(ctx: Any) -> None:
        args = {"user": 1, "note": "x" * 1_000_000}
        for n in range(8):
            await ctx.crons.register(f"c{n}", Every(hours=1), "desk:mail", args)
        with pytest.raises(LimitExceeded, match="bytes of arguments"):
            await ctx.crons.register("c", Every(hours=1), "desk:mail", args)

    await desk.inside(h, where, many)
    await desk.inside(h, where, large)


# ------------------------------------------------------------------ looking


async def test_a_list_walks_all_pages_by_name(start: Start) -> None:
    """More than a page, in order of the names, with a prefix or without, in a mutation as on the app."""
    desk = Desk()
    h = await start(desk.app())

    async def body(ctx: Any) -> None:
        for n in range(999, 0, -1):
            await ctx.crons.register(f"user/{n:04}", Cron("0 9 * * *"), "desk:remind", {"user": n})
        assert await names(ctx.crons, "user/") == [f"user/{n:04}" for n in range(1, 1000)]

    await desk.inside(h, "mutate", body)
    assert await names(h.crons, "user/") == [f"user/{n:04}" for n in range(1, 1000)]
    assert await names(h.crons, "user/05") == [f"user/{n:04}" for n in range(500, 600)]
    assert [info.name async for info in h.crons.list()][:2] == ["code", "user/0001"]
    assert [info async for info in h.crons.list(prefix="nobody")] == []


@pytest.mark.parametrize("where", PLACES)
async def test_the_preview_of_crons_that_do_not_fire(start: Start, where: str) -> None:
    """Paused, disabled or on an outside clock: the ticks it would have from now on; an interval goes on from its last."""
    desk = Desk()
    h = await start(desk.app())
    await h.crons.register("paused", Cron("0 9 * * *"), "desk:remind")
    await h.crons.register("interval", Every(hours=5), "desk:remind")
    await h.crons.register("disabled", Every(hours=5), "desk:remind", enabled=False)
    await h.crons.register("outside", Cron("0 9 * * *"), "desk:remind", clock="external")
    await h.crons.register("leap", Cron("0 0 29 2 *"), "desk:remind")
    await h.advance(hours=6)
    await h.crons.pause("paused")
    await h.crons.pause("interval")
    await h.advance(hours=6)

    async def body(ctx: Any) -> None:
        async def ticks(name: str, n: int = 2) -> list[timedelta]:
            return [tick - START for tick in await ctx.crons.next_ticks(name, n)]

        assert await ticks("paused") == [33 * HOUR, 57 * HOUR]
        assert await ticks("outside", 1) == [33 * HOUR]
        assert await ticks("interval") == [15 * HOUR, 20 * HOUR]
        assert await ticks("disabled") == [15 * HOUR, 20 * HOUR]
        leaps = await ctx.crons.next_ticks("leap", 1000)
        assert (len(leaps), leaps[0], leaps[-1].year) == (42, datetime(2028, 2, 29, tzinfo=UTC), 2196)
        assert len(await ctx.crons.next_ticks("code")) == 5
        with pytest.raises(UnknownCron):
            await ctx.crons.next_ticks("nobody")
        for wrong in (0, 1001, True, 2.0, "3"):
            with pytest.raises(InvalidArgs, match="n must be from 1 to 1000"):
                await ctx.crons.next_ticks("code", wrong)

    await desk.inside(h, where, body)


@pytest.mark.parametrize("where", PLACES)
async def test_what_is_not_there_and_what_can_not_be(start: Start, where: str) -> None:
    """A miss is data where something is looked for, and an error where something is to be done."""
    desk = Desk()
    h = await start(desk.app())

    async def body(ctx: Any) -> None:
        crons = ctx.crons
        assert await crons.get("nobody") is None
        assert await crons.runs("nobody") == []
        assert await crons.delete("nobody") is False
        for call in (lambda: crons.pause("x"), lambda: crons.resume("x"), lambda: crons.run_now("x")):
            with pytest.raises(UnknownCron, match="'x'"):
                await call()
        for odd in (None, 3, b"a", "\ud800"):
            for call in (crons.get, crons.delete, crons.pause, crons.resume, crons.run_now, crons.next_ticks):
                with pytest.raises(InvalidArgs, match="a cron's name"):
                    await call(odd)
        with pytest.raises(InvalidArgs, match="name"):
            await crons.runs(3)
        with pytest.raises(InvalidArgs, match="name"):
            crons.list(prefix=None)
        for wrong in (0, 1001, None):
            with pytest.raises(InvalidArgs, match="limit must be"):
                await crons.runs(limit=wrong)
        with pytest.raises(InvalidArgs, match="note"):
            await crons.pause("code", note="x" * 1001)
        with pytest.raises(InvalidTime):
            await crons.run_now("code", scheduled_at=datetime(2026, 1, 1))

    await desk.inside(h, where, body)


# ------------------------------------------------------------------ places


async def test_a_handle_in_the_wrong_place(start: Start) -> None:
    """Not before the start; the app's not inside a mutation; a ctx's not after its function; none on a query."""
    desk = Desk()
    app = desk.app()
    assert app.crons is app.crons
    for early in (
        lambda: app.crons.register("a", Every(hours=1), "desk:remind"),
        lambda: app.crons.get("a"),
        lambda: app.crons.delete("a"),
    ):
        with pytest.raises(NotStarted):
            await early()
    assert app.crons.staged is None
    h = await start(app)
    kept = {}

    async def body(ctx: Any) -> None:
        kept["crons"] = ctx.crons
        kept["ctx"] = ctx
        assert ctx.crons is ctx.crons

    async def from_inside(ctx: Any) -> None:
        for call in (lambda: app.crons.delete("a"), lambda: app.crons.get("a")):
            with pytest.raises(ContextClosed):
                await call()

    await desk.inside(h, "mutate", from_inside)
    for where in ("mutate", "act"):
        await desk.inside(h, where, body)
        with pytest.raises(ContextClosed):
            await kept["crons"].delete("a")
        with pytest.raises(ContextClosed):
            await kept["ctx"].crons.delete("a")
    assert not hasattr(QueryCtx, "crons")
