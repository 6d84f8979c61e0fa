"""Arguments: validated by their type hints when scheduled and when run, stored only if they come back the same."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from runtime import Call, InvalidArgs, MutationCtx, Namespace

if TYPE_CHECKING:
    from tests.runtime.conftest import Start


class Color(enum.Enum):
    """An enum with str values."""

    RED = "red"


class Item(BaseModel):
    """A nested model."""

    name: str
    price: Decimal = Decimal("1.50")


class Order(BaseModel):
    """A model with models."""

    items: list[Item]
    color: Color = Color.RED
    note: str | None = None


@dataclass
class Point:
    """A dataclass."""

    x: int
    tags: list[str] = field(default_factory=list)


class Options(TypedDict, total=False):
    """A typed dict."""

    depth: int


things: Namespace[Any] = Namespace("things")


@things.mutation
async def echo(
    ctx: MutationCtx,
    *,
    order: Order | None = None,
    point: Point | None = None,
    options: Options | None = None,
    at: datetime | None = None,
    day: date | None = None,
    span: timedelta | None = None,
    amount: Decimal | None = None,
    uid: UUID | None = None,
    path: Path | None = None,
    color: Color | None = None,
    level: Literal["low", "high"] | None = None,
    ids: set[int] | None = None,
    pair: tuple[int, str] | None = None,
    raw: bytes | None = None,
    small: Annotated[int, Field(ge=0, le=9)] | None = None,
) -> str:
    """Say what arrived, with its types."""
    given = {name: value for name, value in locals().items() if name != "ctx" and value is not None}
    return repr(sorted(given.items()))


VALUES = [
    {"order": Order(items=[Item(name="a"), Item(name="b", price=Decimal("2.10"))], note="n")},
    {"point": Point(1, ["x"])},
    {"options": {"depth": 3}},
    {"at": datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)},
    {"at": datetime(2026, 1, 1, 12, 30)},
    {"day": date(2026, 2, 28)},
    {"span": timedelta(days=1, microseconds=1)},
    {"amount": Decimal("1.10")},
    {"uid": UUID(int=7)},
    {"path": Path("a/b")},
    {"color": Color.RED},
    {"level": "low"},
    {"ids": {3, 1}},
    {"pair": (1, "a")},
    {"raw": b"\x00\xff"},
    {"small": 9},
]


@pytest.mark.parametrize("args", VALUES, ids=lambda args: next(iter(args)))
async def test_a_scheduled_call_gets_what_a_live_call_gets(start: Start, args: dict[str, Any]) -> None:
    """Every type pydantic knows must arrive in a scheduled run exactly as it arrives in a live call."""
    h = await start(things)
    live = await h.call("things:echo", args)
    job_id = await h.scheduler.run_after(1, "things:echo", args)
    await h.advance(1)
    job = await h.scheduler.get(job_id)
    assert job is not None
    assert (job.error, job.result) == (None, live)


async def test_values_that_pydantic_converts_are_stored_converted(start: Start) -> None:
    """What a JSON client sends must arrive as the declared type, scheduled or not."""
    h = await start(things)
    args = {"at": "2026-01-01T12:30:00Z", "amount": "1.10", "small": "9", "order": {"items": [{"name": "a"}]}}
    live = await h.call("things:echo", args)
    assert "datetime.datetime(2026, 1, 1, 12, 30, tzinfo=" in live
    await h.scheduler.run_now("things:echo", args)
    (job,) = await h.settle()
    assert job.result is not None
    assert job.result.replace("TzInfo(0)", "TzInfo(UTC)").count("Decimal('1.10')") == 1
    assert "('small', 9)" in job.result


# ------------------------------------------------------------------ wrong arguments


WRONG = [
    ({"small": 10}, r"small.*less than or equal to 9"),
    ({"small": "x"}, r"small.*valid integer"),
    ({"order": {"items": [{"nam": "a"}]}}, r"order.*items\.0\.name: Field required"),
    ({"level": "mid"}, r"level.*'low' or 'high'"),
    ({"smal": 3}, r"smal: Extra inputs are not permitted"),
    ({"ctx": 3}, r"ctx: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("args", "match"), WRONG)
async def test_wrong_arguments_are_refused_now_and_when_scheduled(
    start: Start, args: dict[str, Any], match: str
) -> None:
    """A wrong argument must be refused, with its name, by every way in, and nothing stored."""
    h = await start(things)
    for attempt in (
        lambda: h.call("things:echo", args),
        lambda: h.scheduler.run_now("things:echo", args),
        lambda: h.scheduler.run_after(5, Call("things:echo", args)),
        lambda: h.scheduler.run_many([Call("things:echo"), Call("things:echo", args)]),
    ):
        with pytest.raises(InvalidArgs, match=match) as caught:
            await attempt()
        assert str(caught.value).startswith("things:echo: ")
    assert await h.scheduler.list().count() == 0


async def test_all_wrong_arguments_are_told_at_once_but_not_without_end(start: Start) -> None:
    """Up to five problems are named, the rest counted; the values themselves are not repeated."""
    h = await start(things)
    with pytest.raises(InvalidArgs) as caught:
        await h.call("things:echo", {f"extra{n}": "a secret value" for n in range(9)})
    text = str(caught.value)
    assert (text.count("Extra inputs"), "(and 4 more)" in text, "secret" in text) == (5, True, False)


async def test_a_missing_argument_is_refused(start: Start) -> None:
    """An argument without a default must be given."""
    namespace: Namespace[Any] = Namespace("needs")

    @namespace.mutation
    async def one(ctx: MutationCtx, *, n: int) -> int:
        return n

    h = await start(namespace)
    for work in (h.call("needs:one"), h.call("needs:one", {}), h.call("needs:one", None)):
        with pytest.raises(InvalidArgs, match="needs:one: n: Field required"):
            await work
    with pytest.raises(InvalidArgs, match="n: Field required"):
        await h.scheduler.run_now("needs:one")
    with pytest.raises(InvalidArgs, match="n: Field required"):
        await h.scheduler.run_now(one.bind())  # type: ignore[call-arg]
    assert await h.call(one, n=2) == 2


async def test_positional_arguments_are_named_when_bound(start: Start) -> None:
    """A typed call may give arguments by position where the function takes them so; doubled or surplus ones raise."""
    namespace: Namespace[Any] = Namespace("needs")

    @namespace.mutation
    async def two(ctx: MutationCtx, first: int, second: int = 5) -> list[int]:
        return [first, second]

    h = await start(namespace)
    assert await h.call(two, 1) == [1, 5]
    assert await h.call(two, 1, second=2) == [1, 2]
    assert two.bind(1, 2) == Call("needs:two", {"first": 1, "second": 2})
    await h.scheduler.now().call(two, 7, second=8)
    assert [job.result for job in await h.settle()] == [[7, 8]]
    with pytest.raises(InvalidArgs, match=r"two got \['first'\] twice"):
        two.bind(1, first=1)  # type: ignore[misc]
    with pytest.raises(InvalidArgs, match=r"two takes 2 argument\(s\) after ctx, 3 were given"):
        two.bind(1, 2, 3)  # type: ignore[call-arg]


async def test_a_handler_may_have_arguments_called_like_ours(start: Start) -> None:
    """`fn`, `key`, `path`… are the app's names too: `.call`, `bind`, `ctx.run_…` must pass them on."""
    namespace: Namespace[Any] = Namespace("names")

    @namespace.mutation
    async def all_names(ctx: MutationCtx, *, fn: int, key: int, path: int, args: int, delay: int) -> int:
        return fn + key + path + args + delay

    @namespace.mutation
    async def outer(ctx: MutationCtx) -> int:
        return await ctx.run_mutation(all_names, fn=1, key=2, path=3, args=4, delay=5)

    h = await start(namespace)
    names = {"fn": 1, "key": 2, "path": 3, "args": 4, "delay": 5}
    assert await h.app.call(all_names, **names) == 15
    assert await h.call(outer) == 15
    await h.scheduler.now(key="k").call(all_names, **names)
    assert [job.result for job in await h.settle()] == [15]


@pytest.mark.parametrize("args", [[1], "x", 3, [("n", 1)], {1, 2}])
async def test_arguments_by_path_are_a_mapping(start: Start, args: Any) -> None:
    """Anything but a mapping must be refused with what was expected, not fail somewhere inside."""
    h = await start(things)
    with pytest.raises(InvalidArgs):
        await h.app.call("things:echo", args)
    with pytest.raises(InvalidArgs, match="arguments are a mapping"):
        await h.scheduler.run_now("things:echo", args)


@pytest.mark.parametrize("what", [None, 7, echo, b"things:echo", ["things:echo"]])
async def test_the_untyped_way_in_takes_a_path_or_a_bound_call(start: Start, what: Any) -> None:
    """A function object must be bound first; anything else must be refused, before anything is stored."""
    h = await start(things)
    for attempt in (
        lambda: h.scheduler.run_now(what),
        lambda: h.scheduler.run_after(1, what),
        lambda: h.scheduler.run_at(0, what),
    ):
        with pytest.raises(InvalidArgs, match=r"give a 'namespace:function' path or fn\.bind\(…\), not"):
            await attempt()
    assert await h.scheduler.list().count() == 0
