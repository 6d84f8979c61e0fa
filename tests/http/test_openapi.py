"""The OpenAPI documents: valid, true to what the server takes and gives, and silent about what is not for their reader."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import given, settings
from pydantic import BaseModel, Field
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from typing_extensions import TypedDict

from runtime import Http, MutationCtx, Namespace, QueryCtx
from runtime.http.openapi import arguments_schema, document
from runtime.http.rpc import shown
from runtime.http.tables import TABLES
from runtime.testing import Harness, arguments
from tests.http.conftest import DISPATCH, READ, Site, make_app, make_http

T = TypeVar("T")


class Line(BaseModel):
    item: str
    quantity: Annotated[int, Field(ge=1)] = 1


class Order(BaseModel):
    id: UUID
    lines: list[Line]
    inner: Order | None = None
    raw: bytes = b""


class Box(BaseModel, Generic[T]):
    held: T


class Typed(TypedDict):
    at: datetime
    raw: bytes


@dataclasses.dataclass
class Point:
    x: float
    raw: bytes


class Opaque:
    """Nothing that pydantic knows."""


odd = Namespace[Any]("odd.things", access="public")


@odd.mutation
async def order(ctx: MutationCtx[Any], *, order: Order, note: str | None = None) -> Order:
    """Place an order.

    Once it is placed, it is placed.
    """
    return order


@odd.query
async def boxes(
    ctx: QueryCtx[Any], *, kind: Literal["a", "b"], many: Annotated[int, Field(ge=0, le=9)] = 1
) -> list[Box[int]]:
    return [Box[int](held=n) for n in range(many)]


@odd.query
async def typed(ctx: QueryCtx[Any], *, at: datetime, span: timedelta, amount: Decimal, tags: frozenset[str]) -> Typed:
    return {"at": at, "raw": b"\xff"}


@odd.query
async def point(ctx: QueryCtx[Any]) -> Point | None:
    return Point(1.0, b"\x00")


@odd.query
async def raw(ctx: QueryCtx[Any], *, values: dict[str, list[int | None]] = {}) -> bytes:  # noqa: B006 - a default as users write it
    return b"\xff"


@odd.query
async def opaque(ctx: QueryCtx[Any]) -> Opaque:
    return Opaque()


@odd.query
async def unhinted(ctx: QueryCtx[Any], *, anything: Any = None):
    return anything


@odd.query
async def unknown(ctx: QueryCtx[Any]) -> NotDefinedAnywhere:  # type: ignore[name-defined] # noqa: F821
    return None


@odd.mutation(access="internal")
async def hidden(ctx: MutationCtx[Any], *, secret_argument: int) -> None:
    """Be internal."""


FUNCTIONS = list(odd.functions.values())
PUBLIC = [function for function in FUNCTIONS if function.access == "public"]


def made() -> Any:
    return document(TABLES, FUNCTIONS, server="/scheduler", title="odd", version="1")


def check(found: Any) -> None:
    """Fail unless a document is valid, whole and loadable."""
    problems = [f"{error.instance_path}: {error.message[:200]}" for error in OPENAPI_31_VALIDATOR.iter_errors(found)]
    assert problems == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    names = set(found["components"]["schemas"])
    assert {ref.rpartition("/")[2] for ref in refs(found)} <= names
    ids = [operation["operationId"] for path in found["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    loaded = schemathesis.openapi.from_dict(found)
    operations = [operation.ok() for operation in loaded.get_all_operations()]
    assert len(operations) == len(ids)


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from refs(each)
    elif isinstance(value, list):
        for each in value:
            yield from refs(each)


def validator(found: Any, schema: Any) -> Any:
    """Return a validator of a schema that stands in a document."""
    return jsonschema_rs.Draft202012Validator({**schema, "components": found["components"]})


def call_of(found: Any, path: str) -> Any:
    return found["paths"][f"/rpc/{path}"]["post"]


# ------------------------------------------------------------------ valid


def test_documents_are_valid_openapi_3_1() -> None:
    check(made())
    check(document([], [], server="", title="", version="0"))
    check(document(TABLES, make_app()._registry.functions(), server="", title="app", version="0"))


def test_a_document_is_the_same_for_the_same_app() -> None:
    assert made() == made()


def test_two_namespaces_may_sound_alike() -> None:
    """`a.b:c` and `a_b:c`, and models of one name: each keeps what is its own."""
    spaces = [Namespace[Any](name, access="public") for name in ("a.b", "a_b")]

    def local(number: int) -> type[BaseModel]:
        class Same(BaseModel):
            value: Literal[0, 1] = number  # type: ignore[assignment]
            extra: int if number else str  # type: ignore[valid-type]

        return Same

    for number, space in enumerate(spaces):
        shape = local(number)

        @space.query
        async def c(ctx: QueryCtx[Any], *, same: shape) -> shape:  # type: ignore[valid-type]
            return same

    found = document(
        TABLES,
        [function for space in spaces for function in space.functions.values()],
        server="",
        title="",
        version="0",
    )
    check(found)
    for space, good in ((spaces[0], "text"), (spaces[1], 1)):
        schema = call_of(found, f"{space.name}:c")["requestBody"]["content"]["application/json"]["schema"]
        assert validator(found, schema).is_valid({"same": {"extra": good}})
        assert not validator(found, schema).is_valid({"same": {"extra": 1 if good == "text" else "text"}})


# ------------------------------------------------------------------ true


@pytest.mark.parametrize("function", PUBLIC, ids=lambda function: function.path)
def test_what_the_function_takes_the_schema_allows(function: Any) -> None:
    found = made()
    held = validator(found, call_of(found, function.path)["requestBody"]["content"]["application/json"]["schema"])
    alone = jsonschema_rs.Draft202012Validator(arguments_schema(function))

    @given(arguments(function))
    @settings(max_examples=25, deadline=None)
    def allowed(args: dict[str, Any]) -> None:
        told = json.loads(json.dumps(shown(args)))
        for each in (held, alone):
            assert [error.message for error in each.iter_errors(told)] == []

    if function.path not in ("odd.things:unhinted", "odd.things:order"):  # Any; and a model that has no end
        allowed()
    assert not held.is_valid({"no such argument": 1})


BAD = [
    ("odd.things:boxes", {"kind": "c"}), ("odd.things:boxes", {"kind": "a", "many": 10}), ("odd.things:boxes", {}),
    ("odd.things:order", {"order": {"id": "x"}}), ("odd.things:typed", {"at": 1}), ("odd.things:boxes", []),
]  # fmt: skip


@pytest.mark.parametrize(("path", "args"), BAD)
def test_what_the_function_refuses_the_schema_does_not_allow(path: str, args: Any) -> None:
    found = made()
    assert not validator(found, call_of(found, path)["requestBody"]["content"]["application/json"]["schema"]).is_valid(
        args
    )


RESULTS = {
    "odd.things:boxes": [Box[int](held=1)],
    "odd.things:typed": {"at": datetime(2026, 1, 1), "raw": b"\xff"},
    "odd.things:point": Point(1.0, b"\x00"),
    "odd.things:raw": b"\xff",
    "odd.things:order": Order(id=UUID(int=1), lines=[Line(item="tea")], inner=Order(id=UUID(int=2), lines=[])),
    "odd.things:opaque": "whatever",
    "odd.things:unhinted": [1],
    "odd.things:unknown": None,
}


@pytest.mark.parametrize("path", RESULTS)
def test_what_a_client_gets_the_schema_describes(path: str) -> None:
    found = made()
    schema = call_of(found, path)["responses"]["200"]["content"]["application/json"]["schema"]
    told = json.loads(json.dumps({"result": shown(RESULTS[path])}))
    assert [error.message for error in validator({**found}, schema).iter_errors(told)] == []
    if path not in ("odd.things:opaque", "odd.things:unhinted", "odd.things:unknown"):
        assert not validator(found, schema).is_valid({"result": {"no": "such"}})


def test_the_docstring_is_the_description() -> None:
    operation = call_of(made(), "odd.things:order")
    assert (operation["summary"], operation["description"]) == ("Place an order.", "Once it is placed, it is placed.")
    assert [each["name"] for each in operation["parameters"]] == ["Idempotency-Key"]
    assert "parameters" not in call_of(made(), "odd.things:boxes")  # a query records nothing


# ------------------------------------------------------------------ silent


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    app = make_app()
    app.include(odd)
    http = make_http()
    async with Harness(app) as harness:
        yield Site(app, harness, http, app.asgi(http=http))


async def test_the_document_for_clients_has_nothing_of_the_inside(site: Site) -> None:
    async with site.client(None) as client:
        answer = await client.get("/openapi.json")
    check(answer.json())
    for hidden_ in ("hidden", "secret_argument", "notes:prune", "notes:compact", "/admin", "/dashboard", "deploy_key"):
        assert hidden_ not in answer.text
    assert {"/rpc/notes:add", "/schedules/{name}/dispatch"} <= set(answer.json()["paths"])


async def test_the_document_for_operators_has_every_route_that_is_open(site: Site) -> None:
    async with site.client(READ) as client:
        found = (await client.get("/admin/openapi.json")).json()
    check(found)
    told = {(method.upper(), path) for path, operations in found["paths"].items() for method in operations}
    routes = {(route.method, route.path.replace(":path}", "}")) for route in TABLES if route.door != "rpc"}
    assert routes <= told


async def test_a_door_that_is_closed_is_not_described(site: Site) -> None:
    transport = httpx.ASGITransport(app=site.app.asgi(http=Http()))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        found = (await client.get("/openapi.json")).json()
        check(found)
        assert not [path for path in found["paths"] if path.startswith(("/schedules", "/tick"))]
        assert "dispatch" not in found["components"]["securitySchemes"]


async def test_the_document_can_be_switched_off_and_the_other_needs_a_key(site: Site) -> None:
    transport = httpx.ASGITransport(app=site.app.asgi(http=make_http(openapi=False)))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.get("/openapi.json")).status_code == 404
        assert (await client.get("/admin/openapi.json")).status_code == 401
        dispatcher = await client.get("/admin/openapi.json", headers={"Authorization": f"Bearer {DISPATCH}"})
        assert dispatcher.status_code == 401
