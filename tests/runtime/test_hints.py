"""Type hints: when they are resolved, which are, and what happens when one can't be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel, Field

from runtime import App, InvalidArgs, MutationCtx, Namespace, NotRegistrable, QueryCtx
from runtime.testing import Harness

if TYPE_CHECKING:
    from runtime import QueryCtx as OnlyForCheckers
    from tests.runtime.conftest import Start


class Connection:
    """A class that pydantic knows nothing of."""


def test_an_unusable_type_is_refused_at_decoration() -> None:
    """A hint that pydantic can't validate must be refused where it stands."""

    async def wrong(ctx: Any, connection: Connection) -> None:
        pass

    namespace: Namespace[Any] = Namespace("refused")
    for decorate in (namespace.query, namespace.mutation(), namespace.action(name="other")):
        with pytest.raises(NotRegistrable, match="an argument's type can't be validated"):
            decorate(wrong)
    assert namespace.functions == {}


async def test_all_unknown_hints_are_told_at_one_start() -> None:
    """Names that are still unknown when the app starts must stop it, all of them in one message."""
    namespace: Namespace[Any] = Namespace("posts")

    async def first(ctx: Any, what: Missing) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    async def second(ctx: Any, *, what: list[Absent]) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    namespace.mutation(first)
    namespace.action(second)
    with pytest.raises(NotRegistrable) as caught:
        async with Harness(App("unused.db", namespaces=[namespace])):
            raise AssertionError
    for part in ("first", "Missing", "second", "Absent"):
        assert part in str(caught.value)


later: Namespace[Any] = Namespace("later")


@later.mutation
async def uses_later(ctx: MutationCtx, *, what: Later) -> int:
    """A hint that is defined further down in the module."""
    return what.number


class Later(BaseModel):
    """What `uses_later` takes."""

    number: int


async def test_a_hint_may_be_defined_further_down(start: Start) -> None:
    """A name that is unknown at decoration but known when the app starts must be found."""
    h = await start(later)
    assert await h.call("later:uses_later", {"what": {"number": "7"}}) == 7


async def test_a_hint_may_be_a_class_of_the_enclosing_function(start: Start) -> None:
    """With `from __future__ import annotations`, a class local to the decorator's caller must be found."""

    class Local(BaseModel):
        number: Annotated[int, Field(gt=3)]

    namespace: Namespace[Any] = Namespace("posts")

    @namespace.mutation
    async def bare(ctx: MutationCtx, *, what: Local) -> int:
        return what.number

    @namespace.mutation(name="optioned")
    async def with_options(ctx: MutationCtx, *, what: list[Local]) -> int:
        return len(what)

    h = await start(namespace)
    assert await h.call(bare, what=Local(number=4)) == 4
    assert await h.call("posts:optioned", {"what": [{"number": 5}]}) == 1
    with pytest.raises(InvalidArgs, match=r"what\.number: .*greater than 3"):
        await h.call("posts:bare", {"what": {"number": 3}})


async def test_the_annotation_of_ctx_is_never_resolved(start: Start) -> None:
    """The class of ctx may be imported for type checkers only, or not exist at all."""
    namespace: Namespace[Any] = Namespace("posts")

    @namespace.query
    async def checked(ctx: OnlyForCheckers, *, n: int = 1) -> int:
        return n

    @namespace.query
    async def nonsense(ctx: There.Is.No[Such]) -> int:  # type: ignore[name-defined]  # noqa: F821
        return 2

    h = await start(namespace)
    assert await h.call(checked) == 1
    assert await h.call(nonsense) == 2


async def test_the_return_annotation_is_never_resolved(start: Start) -> None:
    """What a function returns is not validated, so an unknown name there must not stop the start."""
    namespace: Namespace[Any] = Namespace("posts")

    @namespace.query
    async def unknown(ctx: QueryCtx) -> ThereIsNoSuchType:  # type: ignore[name-defined]  # noqa: F821
        return 3

    h = await start(namespace)
    assert await h.call("posts:unknown") == 3


async def test_arguments_without_hints_take_anything_storable(start: Start) -> None:
    """A parameter without a hint must be Any, and a default must stand when nothing is given."""
    namespace: Namespace[Any] = Namespace("posts")

    @namespace.mutation
    async def anything(ctx, what, other=(1, 2)):  # type: ignore[no-untyped-def]
        return [what, other]

    h = await start(namespace)
    assert await h.call("posts:anything", {"what": {"a": [1]}}) == [{"a": [1]}, (1, 2)]
    assert await h.call(anything, None, other="x") == [None, "x"]
