"""What can wait in the database: values that come back as they went in, within their limits; all else is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, field_validator

from actor_scheduler.limits import ARGS_BYTES_MAX, DEPTH_MAX
from runtime import App, Call, InvalidArgs, LimitExceeded, MutationCtx, Namespace
from runtime.testing import Harness, simulate

if TYPE_CHECKING:
    from tests.runtime.conftest import Start

# ------------------------------------------------------------------ what would change on the way


class Account(BaseModel):
    """A model with a field that dumps leave out."""

    name: str
    token: str = Field(default="", exclude=True)


class Savings(Account):
    """A subclass with a field of its own."""

    rate: float = 0.0


class Upper(BaseModel):
    """A model whose validation is not idempotent."""

    name: str

    @field_validator("name")
    @classmethod
    def add(cls, name: str) -> str:
        """Change the value each time."""
        return name + "!"


changing: Namespace[Any] = Namespace("changing")


@changing.mutation
async def login(ctx: MutationCtx, *, password: SecretStr) -> str:
    """Take a secret."""
    return password.get_secret_value()


@changing.mutation
async def open_account(ctx: MutationCtx, *, account: Account) -> str:
    """Take a model."""
    return repr(account)


@changing.mutation
async def rename(ctx: MutationCtx, *, upper: Upper) -> str:
    """Take a model that changes."""
    return upper.name


@pytest.mark.parametrize(
    ("path", "args", "name"),
    [
        ("changing:login", {"password": SecretStr("hunter2")}, "password"),
        ("changing:login", {"password": "hunter2"}, "password"),
        ("changing:open_account", {"account": Account(name="a", token="t")}, "account"),
        ("changing:open_account", {"account": Savings(name="a", rate=2.0)}, "account"),
        ("changing:rename", {"upper": {"name": "a"}}, "upper"),
    ],
)
async def test_what_would_change_between_scheduling_and_running_is_refused(
    start: Start, path: str, args: dict[str, Any], name: str
) -> None:
    """A SecretStr, an excluded field, a subclass, a changing validator: a live call takes them, a scheduled one can't.

    The refusal must name the argument and must not show its value.
    """
    h = await start(changing)
    await h.call(path, args)
    with pytest.raises(InvalidArgs) as caught:
        await h.scheduler.run_now(path, args)
    assert path in str(caught.value)
    assert name in str(caught.value) or "SecretStr" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert await h.scheduler.list().count() == 0


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (object(), "object"),
        (lambda: 1, "function"),
        (1 << 63, r"64.bit"),
        (float("nan"), "NaN"),
        (float("inf"), "NaN and infinity"),
        ({1: 2}, "only str can be a key"),
        (1j, "complex"),
        ("\ud800", "can't be stored"),
        (range(3), "range"),
        ({"deep": {"in": [object()]}}, "object"),
    ],
    ids=repr,
)
async def test_what_cannot_be_stored_is_refused_when_scheduled(start: Start, value: Any, match: str) -> None:
    """A value that has no place in the codec must be refused by the scheduling call, naming path and reason."""
    namespace: Namespace[Any] = Namespace("any")

    @namespace.mutation
    async def take(ctx: MutationCtx, *, value: Any) -> None:
        pass

    h = await start(namespace)
    with pytest.raises(InvalidArgs, match=match) as caught:
        await h.scheduler.run_now("any:take", {"value": value})
    assert "any:take" in str(caught.value)
    assert await h.scheduler.list().count() == 0


def nested(depth: int) -> Any:
    """Return a list in a list in a list."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


async def test_arguments_have_limits_of_size_and_depth(start: Start) -> None:
    """One job's arguments must stay under ARGS_BYTES_MAX and DEPTH_MAX; up to them they arrive."""
    namespace: Namespace[Any] = Namespace("any")

    @namespace.mutation
    async def take(ctx: MutationCtx, *, value: Any) -> int:
        return len(value)

    h = await start(namespace)
    await h.scheduler.run_now("any:take", {"value": b"x" * (ARGS_BYTES_MAX - 100)})
    await h.scheduler.run_now("any:take", {"value": nested(DEPTH_MAX - 2)})
    assert [job.result for job in await h.settle()] == [ARGS_BYTES_MAX - 100, 1]
    with pytest.raises(LimitExceeded, match="over the limit of"):
        await h.scheduler.run_now("any:take", {"value": b"x" * ARGS_BYTES_MAX})
    with pytest.raises(LimitExceeded, match="nested over"):
        await h.scheduler.run_now("any:take", {"value": nested(DEPTH_MAX + 1)})
    with pytest.raises(InvalidArgs):
        await h.scheduler.run_now("any:take", {"value": nested(100_000)})
    assert await h.scheduler.list().count() == 2


async def test_changing_the_callers_arguments_after_scheduling_changes_nothing(start: Start) -> None:
    """A job holds its arguments as they were when the call was made: by path, bound, and in a mutation."""
    namespace: Namespace[Any] = Namespace("any")

    @namespace.mutation
    async def take(ctx: MutationCtx, *, value: Any) -> Any:
        return value

    @namespace.mutation
    async def schedules(ctx: MutationCtx) -> None:
        args: dict[str, Any] = {"value": {"ids": [1]}}
        work = ctx.scheduler.run_now("any:take", args)
        args["value"]["ids"].append(2)
        await work

    h = await start(namespace)
    args: dict[str, Any] = {"value": {"ids": [1]}}
    call = Call("any:take", args)
    await h.scheduler.run_now("any:take", args)
    work = h.scheduler.run_now("any:take", args)
    args["value"]["ids"].append(2)
    args["more"] = 3
    await work
    await h.call(schedules)
    assert [job.result for job in await h.settle()] == [{"ids": [1]}] * 3
    assert "more" not in call.args


class OddMapping(Mapping[str, Any]):
    """A mapping that is not a dict."""

    def __getitem__(self, key: str) -> Any:
        return {"value": 4}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["value"])

    def __len__(self) -> int:
        return 1


async def test_any_mapping_will_do(start: Start) -> None:
    """Arguments by path may come in any mapping, as a framework's form data does."""
    namespace: Namespace[Any] = Namespace("any")

    @namespace.mutation
    async def take(ctx: MutationCtx, *, value: int) -> int:
        return value

    h = await start(namespace)
    assert await h.call("any:take", OddMapping()) == 4
    await h.scheduler.run_now("any:take", OddMapping())
    assert [job.result for job in await h.settle()] == [4]


TEXT = st.text()
NUMBERS = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(values=st.lists(JSON, min_size=1, max_size=8))
@settings(max_examples=15, deadline=None)
def test_every_json_value_arrives_as_it_was_scheduled(values: list[Any]) -> None:
    """For an argument of type Any, what arrives, what the job shows and what is returned must equal what was given."""
    namespace: Namespace[Any] = Namespace("any")

    @namespace.mutation
    async def same(ctx: MutationCtx, *, value: Any) -> Any:
        return value

    async def scenario(h: Harness) -> None:
        await h.scheduler.run_many(same.bind(value=value) for value in values)
        jobs = await h.settle()
        assert json.dumps([job.args["value"] for job in jobs]) == json.dumps(values)
        assert json.dumps([job.result for job in jobs]) == json.dumps(values)
        assert await h.call(same, value=values) == values

    simulate(App("unused.db", namespaces=[namespace]), scenario)
