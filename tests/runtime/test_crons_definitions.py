"""Definitions of crons: what is taken, what is refused, and that all that is wrong is said at once."""

from __future__ import annotations

import re
from datetime import UTC, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler import codec
from actor_scheduler.crons.definition import JITTER_US_MAX, Faults, Revision, define, revise
from actor_scheduler.crons.spec import CronSpec
from actor_scheduler.errors import InvalidArgs, UnknownFunction
from runtime import (
    ActionCtx,
    AlreadyStarted,
    App,
    Call,
    Cron,
    CronJob,
    Every,
    InvalidCron,
    MutationCtx,
    Namespace,
    NotRegistrable,
    QueryCtx,
)
from runtime.testing import Harness

LAWS = settings(max_examples=100, deadline=None, derandomize=True, database=None)
NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=128).filter(
    lambda name: name == name.strip()
)
SECOND = 1_000_000


def jobs() -> Namespace[Any]:
    """Return functions of every kind."""
    namespace: Namespace[Any] = Namespace("jobs")

    @namespace.mutation
    async def send(ctx: MutationCtx, *, to: str = "all") -> None: ...

    @namespace.action(access="system", aliases=["jobs:former"])
    async def sweep(ctx: ActionCtx, *, limit: int) -> None: ...

    @namespace.query
    async def look(ctx: QueryCtx) -> None: ...

    return namespace


def app_of(*namespaces: Namespace[Any], **options: Any) -> App[Any]:
    """Return an app that has not started."""
    return App("unused.db", namespaces=namespaces, **options)


async def start(app: App[Any]) -> list[CronSpec]:
    """Start an app, and return what its crons are in the store."""
    async with Harness(app) as h:
        found = [info.spec async for info in h.crons.list()]
    assert all(spec is not None for spec in found)
    return [spec for spec in found if spec is not None]


def accept(path: str, args: Any, function: object) -> tuple[str, Any, bytes]:
    """Take any target."""
    del function
    return path, "mutation", codec.encode(dict(args))


# ------------------------------------------------------------------ laws

GOOD: dict[str, tuple[st.SearchStrategy[Any], str, Any]] = {
    "missed_tick_policy": (st.sampled_from(["latest", "all", "skip"]), "missed", lambda value: value),
    "max_catch_up_ticks": (st.integers(1, 1000), "max_ticks", lambda value: value),
    "max_catch_up_age": (
        st.one_of(st.none(), st.timedeltas(timedelta(microseconds=1), timedelta(days=3650))),
        "max_age_us",
        lambda value: None if value is None else value // timedelta(microseconds=1),
    ),
    "clock": (st.sampled_from(["internal", "external"]), "clock", lambda value: value),
    "overlap": (st.sampled_from(["skip", "queue", "allow"]), "overlap", lambda value: value),
    "jitter": (
        st.one_of(st.none(), st.integers(0, 86_400)), "jitter_us", lambda value: (value or 0) * SECOND,
    ),
    "enabled": (st.booleans(), "enabled", lambda value: value),
    "description": (st.text(st.characters(codec="utf-8"), max_size=1000), "description", lambda value: value),
}  # fmt: skip
BAD: dict[str, st.SearchStrategy[Any]] = {
    "name": st.sampled_from(["", " a", "a ", "é", "a\nb", "a\x7f", "x" * 129, None, 3, b"a"]),
    "schedule": st.sampled_from(["61 * * * *", "", "often", None, 60, timedelta(hours=1)]),
    "target": st.sampled_from([None, 3, print, object(), Call("a:b").after(3), Call("a:b").at(0, key="k")]),
    "args": st.sampled_from([3, "abc", [1], {1, 2}]),
    "missed_tick_policy": st.sampled_from(["none", "", None, 1, ["all"]]),
    "max_catch_up_ticks": st.sampled_from([0, -1, 1001, 1.0, True, None, "3"]),
    "max_catch_up_age": st.sampled_from(
        ["", "48", "-1h", 0, -1, True, float("nan"), timedelta(0), timedelta(days=9999)]
    ),
    "clock": st.sampled_from(["outside", None, True]),
    "overlap": st.sampled_from(["never", None, False, {}]),
    "jitter": st.sampled_from([-1, "x", True, float("inf"), 86_401, timedelta(days=2), "25h", "1 m"]),
    "enabled": st.sampled_from([None, 0, 1, "yes"]),
    "description": st.sampled_from([None, 3, "x" * 1001, "\ud800"]),
    "retry": st.just(3),
    "keep": st.none(),
}


def rightly(options: dict[str, Any]) -> dict[str, Any]:
    """Leave the jitter out where it fits nothing."""
    return {name: value for name, value in options.items() if name != "jitter" or options.get("clock") != "external"}


options_given = st.fixed_dictionaries({}, optional={name: made for name, (made, _, _) in GOOD.items()}).map(rightly)
schedules = st.sampled_from([Cron("0 3 * * *"), Cron("*/5 * * * MON", tz="Europe/Paris"), Every(minutes=5)])


def values(spec: CronSpec) -> dict[str, Any]:
    """Return everything a spec says of its options, by the names inside."""
    return {**spec.rule._asdict(), "jitter_us": spec.jitter_us, "clock": spec.clock, "enabled": spec.enabled,
            "description": spec.description}  # fmt: skip


def asked(options: dict[str, Any]) -> dict[str, Any]:
    """Return what options must become."""
    return {GOOD[name][1]: GOOD[name][2](value) for name, value in options.items()}


@LAWS
@given(NAMES, schedules, options_given)
def test_everything_that_is_said_is_kept(name: str, schedule: Any, options: dict[str, Any]) -> None:
    """What is said must stand in the spec, what is not said must have its default, and all of it survives the store."""
    spec = define(CronJob(name, schedule, "jobs:send", {"to": "you"}, **options)).spec(accept)
    plain = define(CronJob(name, schedule, "jobs:send", {"to": "you"})).spec(accept)
    assert (spec.name, spec.schedule, spec.path, codec.decode(spec.args)) == (
        name,
        schedule,
        "jobs:send",
        {"to": "you"},
    )
    assert values(spec) == {**values(plain), **asked(options)}
    assert CronSpec.decode(name, spec.encode()) == spec


@LAWS
@given(st.fixed_dictionaries({}, optional=BAD))
def test_all_that_is_wrong_is_said_at_once(wrong: dict[str, Any]) -> None:
    """Exactly the wrong fields must be named, each with the cron's name, and nothing is wrong without a reason."""
    said = dict(wrong)
    given = {field: said.pop(field, right) for field, right in (
        ("name", "digest"), ("schedule", Every(hours=1)), ("target", "jobs:send"), ("args", None),
    )}  # fmt: skip
    job = CronJob(*given.values(), **said)
    if not wrong:
        assert define(job).name == "digest"
        return
    with pytest.raises(InvalidCron) as caught:
        define(job)
    lines = str(caught.value).split("\n")
    assert sorted(re.match(r"cron .*?: (\w+): .", line)[1] for line in lines) == sorted(wrong)  # type: ignore[index]


@LAWS
@given(options_given, options_given, st.sampled_from([None, *schedules.elements]))  # type: ignore[attr-defined]
def test_a_revision_changes_what_is_given_and_nothing_else(
    before: dict[str, Any], given_now: dict[str, Any], schedule: Any
) -> None:
    """Options that are not given must stay, those that are must hold, and a jitter with an outside clock is refused."""
    spec = define(CronJob("a", Every(hours=1), "jobs:send", {"to": "you"}, **before)).spec(accept)
    chosen = define(CronJob("a", Every(hours=1), "jobs:send", **given_now)).chosen
    wanted = {**values(spec), **asked(given_now)}
    revision = Revision(schedule, None, chosen)
    if wanted["jitter_us"] and wanted["clock"] == "external":
        with pytest.raises(InvalidCron, match="cron 'a': jitter: an outside clock"):
            revision.of(spec, accept)
        return
    after = revision.of(spec, accept)
    assert values(after) == wanted
    assert after.schedule == (schedule or spec.schedule)
    assert (after.name, after.path, after.args, after.kind) == (spec.name, spec.path, spec.args, spec.kind)


def test_an_expression_alone_changes_a_schedule_too() -> None:
    """It must become a Cron of UTC; one that can't be read is refused with its field."""
    faults = Faults("a")
    assert revise("a", "0  9 * * *", None, {}, faults) == Revision(Cron("0 9 * * *"), None, {})
    assert revise("a", "0 99 * * *", None, {}, faults) is None
    (told,) = faults.found
    assert told.startswith("cron 'a': schedule: ")


# ------------------------------------------------------------------ the forms of a definition


async def test_every_form_of_a_definition() -> None:
    """Each method must make the schedule that it names."""
    namespace = jobs()
    app = app_of(namespace)
    send, crons = namespace.functions["jobs:send"], app.crons
    crons.cron("cron", " 0  3 * * * ", "jobs:send", {"to": "me"}, tz=ZoneInfo("Asia/Tokyo"))
    crons.cron("alias", "@daily", send)
    crons.interval("interval", send, minutes=1.5)
    crons.hourly("hourly", send, minute=30)
    crons.daily("daily", send, at="9:05", tz="Europe/Paris")
    crons.weekly("weekly", send, day="Tuesday", at=time(23, 59))
    crons.weekly("short", send, day="SUN", at="00:00")
    crons.monthly("monthly", send, day=31, at=time(4, 30), tz="America/New_York")
    crons.define_crons([
        CronJob("job", Every(timedelta(days=2)), Call("jobs:sweep", {"limit": 3})), CronJob("text", " 0 5  * * *", send),
    ])  # fmt: skip
    crons.on("0 4 * * *")(send)
    crons.on(Every(hours=3), name="every/3", overlap="allow")(send)
    found = {spec.name: spec.schedule for spec in await start(app)}
    assert found == {
        "cron": Cron("0 3 * * *", tz="Asia/Tokyo"),
        "alias": Cron("@daily"),
        "interval": Every(seconds=90),
        "hourly": Cron("30 * * * *"),
        "daily": Cron("5 9 * * *", tz="Europe/Paris"),
        "weekly": Cron("59 23 * * tue"),
        "short": Cron("0 0 * * sun"),
        "monthly": Cron("30 4 31 * *", tz="America/New_York"),
        "job": Every(hours=48),
        "text": Cron("0 5 * * *"),
        "jobs:send": Cron("0 4 * * *"),
        "every/3": Every(hours=3),
    }


async def test_targets_and_arguments_in_every_form() -> None:
    """A path, a function, a bound call, with arguments or without: each must keep kind, path and arguments."""
    namespace = jobs()
    app = app_of(namespace)
    send, sweep = namespace.functions["jobs:send"], namespace.functions["jobs:sweep"]
    app.crons.interval("a path", "jobs:sweep", {"limit": 1}, hours=1)
    app.crons.interval("a function", send, hours=1)
    app.crons.interval("a function, arguments", sweep, {"limit": 2}, hours=1)
    app.crons.interval("a call", sweep.bind(3), hours=1)  # type: ignore[attr-defined]
    app.crons.interval("an alias", "jobs:former", {"limit": 4}, hours=1)
    found = {spec.name: (spec.path, spec.kind, codec.decode(spec.args)) for spec in await start(app)}
    assert found == {
        "a path": ("jobs:sweep", "action", {"limit": 1}),
        "a function": ("jobs:send", "mutation", {}),
        "a function, arguments": ("jobs:sweep", "action", {"limit": 2}),
        "a call": ("jobs:sweep", "action", {"limit": 3}),
        "an alias": ("jobs:sweep", "action", {"limit": 4}),
    }


async def test_later_changes_of_the_callers_own_arguments_change_nothing() -> None:
    """A mapping that is changed after the definition must not change the cron."""
    app, args = app_of(jobs()), {"limit": 1}
    app.crons.interval("a", "jobs:sweep", args, hours=1)
    args["limit"] = 2
    (spec,) = await start(app)
    assert codec.decode(spec.args) == {"limit": 1}


def test_the_decorator_returns_its_function() -> None:
    """It must stand over @mutation or @action and leave what is under it as it is, as often as it likes."""
    app, namespace = app_of(), Namespace[Any]("deco")

    @app.crons.on("@hourly", name="again")
    @app.crons.on("@daily")
    @namespace.mutation
    async def tidy(ctx: MutationCtx) -> None: ...

    assert namespace.functions["deco:tidy"] is tidy
    with pytest.raises(InvalidCron, match="cron 'again': name: is taken"):
        app.crons.on("@daily", name="again")(tidy)

    async def plain(ctx: MutationCtx) -> None: ...

    with pytest.raises(InvalidCron, match="stands above @namespace.mutation"):
        app.crons.on("@daily")(plain)  # type: ignore[type-var]
    with pytest.raises(InvalidCron, match="cron 'p': target: a cron runs a mutation or an action"):
        app.crons.on("@daily", name="p")(plain)  # type: ignore[type-var]

    @namespace.query
    async def look(ctx: QueryCtx) -> None: ...

    with pytest.raises(InvalidCron, match="cron 'deco:look': target: a cron runs a mutation or an action"):
        app.crons.on("@daily")(look)  # type: ignore[type-var]


def test_the_decorator_checks_what_it_is_given_before_it_sees_a_function() -> None:
    """Without its brackets it must not take the function for a schedule; whatever else is wrong is named, too."""
    app, namespace = app_of(), Namespace[Any]("deco")

    with pytest.raises(InvalidCron, match=r'write @app\.crons\.on\("0 9 \* \* \*"\)'):

        @app.crons.on  # type: ignore[arg-type]
        @namespace.mutation
        async def bare(ctx: MutationCtx) -> None: ...

    for wrong in (None, 5, timedelta(hours=1), print):
        with pytest.raises(InvalidCron, match=r'schedule: write @app\.crons\.on\("0 9 \* \* \*"\)'):
            app.crons.on(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidCron) as caught:
        app.crons.on("61 * * * *", name="a ", overlap="no")  # type: ignore[arg-type]
    assert [line.split(": ")[:2] for line in str(caught.value).split("\n")] == [
        ["cron 'a '", "name"], ["cron 'a '", "schedule"], ["cron 'a '", "overlap"],
    ]  # fmt: skip


# ------------------------------------------------------------------ what is refused at once


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (lambda crons: crons.cron("a", "61 * * * *", "jobs:send"), ["expr"]),
        (lambda crons: crons.cron("a", "0 0 31 2 *", "jobs:send"), ["expr"]),
        (lambda crons: crons.cron("a", "0 0 0 * * *", "jobs:send"), ["expr"]),
        (lambda crons: crons.cron("a", None, "jobs:send"), ["expr"]),
        (lambda crons: crons.cron("a", "* * * * *", "jobs:send", tz="Europe/Pariss"), ["tz"]),
        (lambda crons: crons.cron("a", "R * * * *", 3, tz="x", overlap="no"), ["expr", "tz", "target", "overlap"]),
        (lambda crons: crons.interval("a", "jobs:send"), ["interval"]),
        (lambda crons: crons.interval("a", "jobs:send", seconds=1, hours=1), ["interval"]),
        (lambda crons: crons.interval("a", "jobs:send", seconds=0.5, jitter=-1), ["interval", "jitter"]),
        (lambda crons: crons.interval("", "jobs:send", {"a": 1}, minutes=True), ["interval", "name"]),
        (lambda crons: crons.hourly("a", "jobs:send", minute=60), ["minute"]),
        (lambda crons: crons.hourly("a", "jobs:send", minute=True), ["minute"]),
        (lambda crons: crons.daily("a", "jobs:send", at="24:00"), ["at"]),
        (lambda crons: crons.daily("a", "jobs:send", at="9"), ["at"]),
        (lambda crons: crons.daily("a", "jobs:send", at=time(9, tzinfo=UTC)), ["at"]),
        (lambda crons: crons.daily("a", "jobs:send", at=time(9, 0, 1)), ["at"]),
        (lambda crons: crons.daily("a", "jobs:send", at=9, tz="no/where"), ["at", "tz"]),
        (lambda crons: crons.weekly("a", "jobs:send", day="tues", at="09:00"), ["day"]),
        (lambda crons: crons.weekly("a", "jobs:send", day=1, at="x"), ["at", "day"]),
        (lambda crons: crons.monthly("a", "jobs:send", day=0, at="09:00"), ["day"]),
        (lambda crons: crons.monthly("a", "jobs:send", day=32, at="09:00"), ["day"]),
        (lambda crons: crons.cron("a", "* * * * *", "jobs:send", jitter="1h", clock="external"), ["jitter"]),
        (lambda crons: crons.cron("a", "* * * * *", Call("jobs:sweep"), {"limit": 1}), ["args"]),
        (lambda crons: crons.cron("a", "* * * * *", "jobs:send", max_attempts=3), ["max_attempts"]),
        (lambda crons: crons.define_crons([CronJob("a", "61 * * * *", "jobs:send")]), ["schedule"]),
        (lambda crons: crons.define_crons([CronJob("a", "", "jobs:send", jitter=-1)]), ["schedule", "jitter"]),
        (lambda crons: crons.define_crons([CronJob("a", 60, "jobs:send")]), ["schedule"]),  # type: ignore[arg-type]
    ],
)
def test_what_can_be_seen_at_once_is_refused_at_once(make: Any, fields: list[str]) -> None:
    """Every wrong field of the entry must be in one error, and nothing of it is defined."""
    app = app_of(jobs())
    with pytest.raises(InvalidCron) as caught:
        make(app.crons)
    assert [line.split(": ")[1] for line in str(caught.value).split("\n")] == fields
    app.crons.interval("a", "jobs:send", hours=1)  # the name is free


def test_many_are_defined_all_or_none() -> None:
    """What is wrong with any entry must be in one error; then none is defined, and their names are free."""
    app = app_of(jobs())
    app.crons.interval("taken", "jobs:send", hours=1)
    good = [CronJob("a", Every(hours=1), "jobs:send"), CronJob("b", Every(hours=1), "jobs:send")]
    with pytest.raises(InvalidCron) as caught:
        app.crons.define_crons([
            *good,
            CronJob("b", Every(hours=2), "jobs:send"),
            CronJob("taken", Every(hours=2), "jobs:send"),
            CronJob("c", Every(hours=2), 3, jitter=-1),  # type: ignore[arg-type]
            CronJob("e", "0 25 * * *", "jobs:send"),
            "d",  # type: ignore[list-item]
        ])  # fmt: skip
    said = str(caught.value).split("\n")
    assert said[:2] == [f"cron '{name}': name: is taken by another cron of this app" for name in ("b", "taken")]
    assert [line[:18] for line in said[2:]] == [
        "cron 'c': target: ", "cron 'c': jitter: ", "cron 'e': schedule", "define_crons takes",
    ]  # fmt: skip
    app.crons.define_crons(good)
    with pytest.raises(InvalidCron, match="cron 'a': name: is taken"):
        app.crons.interval("a", "jobs:send", hours=1)


def test_the_longest_jitter_is_a_day() -> None:
    """A day must be taken, as seconds, text or timedelta; a moment more is not."""
    for most in (86_400, "1d", "24h", timedelta(days=1)):
        spec = define(CronJob("a", Every(hours=1), "a:b", jitter=most)).spec(accept)
        assert spec.jitter_us == JITTER_US_MAX
    with pytest.raises(InvalidCron, match="jitter: at most a day"):
        define(CronJob("a", Every(hours=1), "a:b", jitter=timedelta(days=1, microseconds=1)))


# ------------------------------------------------------------------ what is refused when the app starts


async def test_a_start_names_every_target_and_every_argument_that_is_wrong() -> None:
    """Unknown paths (with the nearest name), queries, foreign functions, wrong arguments: all must be in one error."""
    app, other = app_of(jobs()), jobs()
    app.crons.interval("good", "jobs:send", hours=1)
    app.crons.interval("typo", "jobs:sned", hours=1)
    app.crons.interval("query", "jobs:look", hours=1)
    app.crons.interval("foreign", other.functions["jobs:send"], hours=1)
    app.crons.interval("missing", "jobs:sweep", hours=1)
    app.crons.interval("wrong", "jobs:sweep", {"limit": "many"}, hours=1)
    app.crons.interval("unknown", "jobs:send", {"too": "me"}, hours=1)
    app.crons.interval("unstorable", "jobs:send", {"to": object()}, hours=1)
    with pytest.raises(InvalidCron) as caught:
        await start(app)
    lines = str(caught.value).split("\n")
    assert [line.split(": ")[0:2] for line in lines] == [
        ["cron 'typo'", "target"], ["cron 'query'", "target"], ["cron 'foreign'", "target"],
        ["cron 'missing'", "args"], ["cron 'wrong'", "args"], ["cron 'unknown'", "args"], ["cron 'unstorable'", "args"],
    ]  # fmt: skip
    assert "did you mean 'jobs:send'?" in lines[0]
    assert "is a query" in lines[1]
    assert "is not this app's function" in lines[2]
    assert "limit" in lines[3]


async def test_what_is_wrong_with_functions_and_with_crons_is_said_together() -> None:
    """One start must name both."""
    namespace: Namespace[Any] = Namespace("bad")

    @namespace.mutation
    async def broken(ctx: MutationCtx, *, a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    app = app_of(namespace)
    app.crons.interval("typo", "bad:brokn", hours=1)
    with pytest.raises(NotRegistrable, match=r"(?s)Nowhere.*cron 'typo': target: no function"):
        await start(app)
    alone = app_of(namespace)
    with pytest.raises(NotRegistrable, match="Nowhere"):
        await start(alone)


async def test_a_validator_that_breaks_is_a_wrong_argument() -> None:
    """Whatever an app's own validator raises must name the cron."""
    namespace: Namespace[Any] = Namespace("own")

    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
            from pydantic_core import core_schema

            return core_schema.no_info_plain_validator_function(cls.check)

        @staticmethod
        def check(value: Any) -> Any:
            raise RuntimeError("the validator broke")

    async def take(ctx: MutationCtx, *, a: Any) -> None: ...

    take.__annotations__["a"] = Odd
    namespace.mutation(take)
    app = app_of(namespace)
    app.crons.interval("odd", "own:take", {"a": 1}, hours=1)
    with pytest.raises(InvalidCron, match="cron 'odd': args: RuntimeError: the validator broke"):
        await start(app)


async def test_definitions_come_before_the_start() -> None:
    """Afterwards each must raise AlreadyStarted, and name what to use then."""
    namespace = jobs()
    app = app_of(namespace)
    send = namespace.functions["jobs:send"]
    async with Harness(app):
        for late in (
            lambda: app.crons.cron("a", "@daily", "jobs:send"),
            lambda: app.crons.interval("a", "jobs:send", hours=1),
            lambda: app.crons.hourly("a", "jobs:send"),
            lambda: app.crons.daily("a", "jobs:send", at="09:00"),
            lambda: app.crons.weekly("a", "jobs:send", day="mon", at="09:00"),
            lambda: app.crons.monthly("a", "jobs:send", day=1, at="09:00"),
            lambda: app.crons.define_crons([]),
            lambda: app.crons.on("@daily")(send),
        ):
            with pytest.raises(AlreadyStarted, match=r"await app\.crons\.register"):
                late()
    app.crons.cron("a", "@daily", "jobs:send")


def test_a_setting_of_the_app_is_checked() -> None:
    """Anything but the two words must be refused."""
    for wrong in ("never", None, True):
        with pytest.raises(InvalidArgs, match="cron_activation must be"):
            app_of(cron_activation=wrong)


def test_the_error_of_a_target_is_the_cause() -> None:
    """Whoever looks for the first error must find it."""

    def refuse(path: str, args: Any, function: object) -> Any:
        raise UnknownFunction(path)

    with pytest.raises(InvalidCron) as caught:
        define(CronJob("a", Every(hours=1), "a:b")).spec(refuse)
    assert isinstance(caught.value.__cause__, UnknownFunction)
    assert repr(CronJob("a", Every(hours=1), "a:b")) == "CronJob('a', Every(hours=1), 'a:b')"
