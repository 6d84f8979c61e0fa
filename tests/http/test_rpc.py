"""Functions over HTTP: who calls is asked first, a path is only a key, and an answer says what has happened."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr
from pydantic.dataclasses import dataclass as pydantic_dataclass

from runtime import (
    ActionCtx,
    App,
    AuthRequest,
    FunctionError,
    Http,
    InvalidArgs,
    MutationCtx,
    Namespace,
    QueryCtx,
    Quota,
)
from runtime.http.rpc import _scoped, shown
from runtime.testing import Harness
from tests.http.conftest import Site


class Color(Enum):
    RED = "red"


class Money(BaseModel):
    amount: Decimal
    at: datetime


class Reading(BaseModel):
    value: float


@dataclasses.dataclass
class Point:
    x: float
    raw: bytes


@pydantic_dataclass
class Name:
    first: str


class Nested(BaseModel):
    secret: bytes = Field(default=b"\xff")


class Opaque:
    """Nothing that JSON knows."""


MOMENT = datetime(2026, 11, 21, 14, 0, 0, 123, tzinfo=UTC)

# What a function returns, and what its client gets.
RETURNED: dict[str, tuple[Any, Any]] = {
    "none": (None, None),
    "whole": (2**80, 2**80),
    "text": ("ünï\ud800", "ünï\ud800"),
    "not a number": (math.nan, {"$float": "nan"}),
    "infinite": ([math.inf, -math.inf], [{"$float": "inf"}, {"$float": "-inf"}]),
    "bytes": (b"\xff\x00", {"$bytes": base64.b64encode(b"\xff\x00").decode()}),
    "moment": (MOMENT, "2026-11-21T14:00:00.000123Z"),
    "moment without a zone": (MOMENT.replace(tzinfo=None), "2026-11-21T14:00:00.000123"),
    "span": (timedelta(minutes=90), "PT1H30M"),
    "uuid": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "enum": (Color.RED, "red"),
    "decimal": (Decimal("1.10"), "1.10"),
    "set": ({1}, [1]),
    "tuple": ((1, "a"), [1, "a"]),
    "keys": ({1: "a", UUID(int=1): "b"}, {"1": "a", "00000000-0000-0000-0000-000000000001": "b"}),
    "model": (
        [Money(amount=Decimal("1.5"), at=MOMENT)],
        [{"amount": "1.5", "at": "2026-11-21T14:00:00.000123Z"}],
    ),
    "dataclass": (Point(math.nan, b"a"), {"x": {"$float": "nan"}, "raw": {"$bytes": "YQ=="}}),
    "pydantic dataclass": (Name("ada"), {"first": "ada"}),
    "model without a number": (Reading(value=math.nan), {"value": {"$float": "nan"}}),
    "secret": (SecretStr("hidden"), "**********"),
}

UNSHOWABLE: dict[str, Any] = {
    "object": Opaque(),
    "deep": None,  # made below: nested without end
    "class": Opaque,
    "enormous": 10**5000,
    "function": len,
}
UNSHOWABLE["deep"] = endless = []
endless.append(endless)

ns = Namespace[Any]("things")


@ns.query(access="public")
async def give(ctx: QueryCtx[Any], *, what: str) -> Any:
    """Give a thing back."""
    return RETURNED[what][0]


@ns.mutation(access="public")
async def give_once(ctx: MutationCtx[Any], *, what: str) -> Any:
    return RETURNED[what][0]


@ns.mutation(access="public")
async def last(ctx: MutationCtx[Any]) -> timedelta:
    return timedelta(minutes=90)


@ns.mutation(access="public")
async def keep(ctx: MutationCtx[Any], *, text: str, unshowable: str | None = None) -> Any:
    done = await ctx.db.execute("INSERT INTO things (text, who) VALUES (?, ?)", [text, str(ctx.auth)])
    return UNSHOWABLE[unshowable] if unshowable is not None else done.lastrowid


@ns.query(access="public")
async def rows(ctx: QueryCtx[Any]) -> Any:
    return await ctx.db.fetch_all("SELECT text FROM things ORDER BY id")


@ns.query(access="public")
async def whoami(ctx: QueryCtx[Any]) -> Any:
    return {"auth": ctx.auth, "source": ctx.invoker.source, "type": ctx.invoker.type}


@ns.query(access="public")
async def mistaken(ctx: QueryCtx[Any]) -> None:
    raise InvalidArgs("inside")


@ns.action(access="public")
async def act(ctx: ActionCtx[Any], *, seconds: float = 0) -> str:
    await ctx.sleep(seconds)
    return "done"


@ns.action(access="public", timeout=1)
async def slow(ctx: ActionCtx[Any]) -> None:
    await ctx.sleep(60)


@ns.mutation
async def inner(ctx: MutationCtx[Any]) -> None:
    """Be internal."""


@ns.mutation(access="system")
async def innermost(ctx: MutationCtx[Any]) -> None:
    """Be of the system."""


async def who(request: AuthRequest) -> Any:
    """Return whoever the headers name: in a test, everybody tells the truth."""
    name = request.headers.get("x-user")
    if name == "nobody":
        raise FunctionError("UNAUTHORIZED", "log in first")
    if name == "broken":
        raise RuntimeError("the identity provider said: password=hunter2")
    return name if name is None or not name.startswith("{") else json.loads(name)


def make(**options: Any) -> App[Any]:
    app = App[Any]("app.db", auth=who, namespaces=[ns], **options)
    app.schema("CREATE TABLE things (id INTEGER PRIMARY KEY, text TEXT NOT NULL, who TEXT)")
    return app


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    app, http = make(), Http()
    async with Harness(app) as harness:
        yield Site(app, harness, http, app.asgi(http=http))


@pytest.fixture
async def client(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client(None) as client:
        yield client


def error(response: httpx.Response) -> str:
    return str(response.json()["error"]["code"])


# ------------------------------------------------------------------ results


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes() | st.uuids(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.frozensets(st.integers())
        ),
    )
)
@settings(deadline=None)
def test_whatever_is_made_of_known_values_has_a_form_in_json(value: Any) -> None:
    text = json.dumps(shown(value), allow_nan=False)
    assert shown(json.loads(text)) == json.loads(text)  # what JSON has stays as it is


@pytest.mark.parametrize("what", RETURNED)
async def test_a_client_gets_what_the_function_returned(client: httpx.AsyncClient, what: str) -> None:
    answer = await client.post("/rpc/things:give", json={"what": what})
    assert (answer.status_code, answer.json()) == (200, {"result": RETURNED[what][1]})


async def test_rows_are_objects(client: httpx.AsyncClient) -> None:
    """What a query most often returns is what it read."""
    await client.post("/rpc/things:keep", json={"text": "a"})
    assert (await client.post("/rpc/things:rows")).status_code == 415  # a body, even none, has a type
    answer = await client.post("/rpc/things:rows", json={})
    assert answer.json() == {"result": [{"text": "a"}]}


@pytest.mark.parametrize("what", UNSHOWABLE)
async def test_a_result_that_can_not_be_shown_does_not_undo_the_call_and_the_answer_says_so(
    site: Site, client: httpx.AsyncClient, what: str
) -> None:
    answer = await client.post("/rpc/things:keep", json={"text": what, "unshowable": what})
    assert (answer.status_code, error(answer)) == (500, "RESULT_NOT_JSON")
    assert "took effect" in answer.json()["error"]["message"]
    assert [row["text"] for row in await site.app.call("things:rows")] == [what]


# ------------------------------------------------------------------ paths


HIDDEN = [
    "things:inner",
    "things:innermost",
    "things:nothing",
    "nothing:at_all",
    "things",
    "things:",
    ":keep",
    "a" * 500,
]


async def test_what_is_not_public_and_what_is_not_there_can_not_be_told_apart(
    site: Site, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the answer, and not by the work: the search for a near name is for the app's own code."""

    def searched(*_: object) -> str:
        raise AssertionError("a client must not make the server search")

    monkeypatch.setattr("runtime.registry.Registry._unknown", searched)
    answers = [await client.post(f"/rpc/{path}", json={}) for path in HIDDEN]
    for answer in answers:
        document = answer.json()
        assert len(document["error"].pop("request_id")) == 16
        assert (answer.status_code, document) == (
            404,
            {"error": {"code": "UNKNOWN_FUNCTION", "message": "no public function is registered under this path"}},
        )


@given(st.text(min_size=1) | st.from_regex(r"\A[a-z_.:/%A-Z]{1,140}\Z"))
@settings(deadline=None, max_examples=150)
async def test_a_path_is_a_key_and_nothing_else(path: str) -> None:
    """No path is imported, looked up on anything, or can break the answer; only a registered one is found."""
    app = make()
    async with app_client(app) as client:
        url = "/rpc/" + "".join(f"%{byte:02X}" for byte in path.encode("utf-8", "surrogatepass"))
        answer = await client.post(url, json={})
    assert answer.status_code in {404, 503}, answer.text  # 503: the app does not run; nothing was looked up


def app_client(app: App[Any]) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app.asgi(http=Http()))
    return httpx.AsyncClient(transport=transport, base_url="http://testserver")


@pytest.mark.parametrize(
    "path",
    [
        "things:keep\n", "things:keep ", " things:keep", "Things:keep", "things:ke\u200bep", "thing\uff53:keep", "things::keep",
        "things:__class__", "things:keep.__globals__", "../things:keep", "/things:keep", "things%3Akeep",
        "os:system", "builtins:eval", "a/rpc/things:keep", "things:keep\0",
    ],
)  # fmt: skip
async def test_only_the_very_path_is_the_path(client: httpx.AsyncClient, path: str) -> None:
    url = "/rpc/" + "".join(f"%{byte:02X}" for byte in path.encode())
    answer = await client.post(url, json={"text": "a"})
    elsewhere = "/" in path.rstrip("/") or not path.isprintable()  # of no route at all
    assert (answer.status_code, error(answer)) == (404, "NOT_FOUND" if elsewhere else "UNKNOWN_FUNCTION")


# ------------------------------------------------------------------ bodies


BAD = {
    "not utf-8": b'{"text": "\xff"}',
    "utf-16": '{"text": "a"}'.encode("utf-16"),
    "half": b'{"text": ',
    "two": b'{"text": "a"} {}',
    "the same key twice": b'{"text": "a", "text": "b"}',
    "nan": b'{"text": NaN}',
    "infinity": b'{"text": -Infinity}',
    "a huge whole number": b'{"text": ' + b"9" * 5000 + b"}",
    "over 64 bits": b'{"text": 9223372036854775808}',
    "a huge float": b'{"text": 1e999}',
    "deep": b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "many": b'{"text": [' + b"1," * 100_001 + b"1]}",
    "a lone surrogate": b'{"text": "\\ud800"}',
    "comment": b'{"text": "a"} // yes',
    "byte order mark": b"\xef\xbb\xbf" + b'{"text": "a"}',
}


@pytest.mark.parametrize("what", BAD)
async def test_json_that_could_mean_two_things_is_refused(site: Site, client: httpx.AsyncClient, what: str) -> None:
    answer = await client.post("/rpc/things:keep", content=BAD[what], headers={"Content-Type": "application/json"})
    assert (answer.status_code, error(answer)) == (400, "BAD_JSON"), answer.text
    assert await site.app.call("things:rows") == []


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "1", "true"])
async def test_arguments_are_one_object(client: httpx.AsyncClient, body: str) -> None:
    answer = await client.post("/rpc/things:keep", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, error(answer)) == (400, "INVALID_BODY")


@pytest.mark.parametrize(
    "args",
    [{}, {"text": 1}, {"text": "a", "more": 1}, {"text": "a", "priority": 9}, {"text": None}, {"ctx": {}, "text": "a"}],
)
async def test_arguments_are_what_the_function_declares(site: Site, client: httpx.AsyncClient, args: Any) -> None:
    """Nothing beside them can be set from outside: no option of a job, and not the ctx."""
    answer = await client.post("/rpc/things:keep", json=args)
    assert (answer.status_code, error(answer)) == (400, "INVALID_ARGS")
    assert await site.app.call("things:rows") == []


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "text/json"]
)
async def test_only_json_is_taken(client: httpx.AsyncClient, media: str) -> None:
    answer = await client.post("/rpc/things:keep", content=b'{"text": "a"}', headers={"Content-Type": media})
    assert (answer.status_code, error(answer)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_a_call_is_a_post(site: Site, client: httpx.AsyncClient, method: str) -> None:
    for headers in ({}, {"X-HTTP-Method-Override": "POST", "X-Method-Override": "POST"}):
        answer = await client.request(method, "/rpc/things:keep", headers=headers)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    smuggled = await client.post("/rpc/things:rows", json={}, headers={"X-HTTP-Method-Override": "DELETE"})
    assert smuggled.status_code == 200  # it means nothing here


async def test_a_parameter_in_the_url_means_nothing(client: httpx.AsyncClient) -> None:
    """Neither arguments nor an identity are ever taken from a URL."""
    answer = await client.post("/rpc/things:whoami?user=admin", json={})
    assert (answer.status_code, error(answer)) == (400, "INVALID_QUERY")


# ------------------------------------------------------------------ who calls


async def test_who_calls_is_asked_before_anything_else_is_looked_at(site: Site) -> None:
    """A caller who is refused learns nothing: not whether there is such a function, nor what is wrong with the body."""
    for path in ("/rpc/things:keep", "/rpc/things:nothing"):
        sent: list[Any] = []

        async def never() -> Any:
            raise AssertionError("the body was read")

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"content-type", b"application/json"), (b"x-user", b"nobody"), (b"content-length", b"10")],
            "scheme": "http", "server": ("testserver", 80), "client": ("10.0.0.1", 1), "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        await site.asgi(scope, never, send)
        assert sent[0]["status"] == 401
        assert json.loads(sent[1]["body"])["error"]["message"] == "log in first"


async def test_a_function_sees_who_calls(client: httpx.AsyncClient) -> None:
    answer = await client.post("/rpc/things:whoami", json={}, headers={"X-User": "ada"})
    assert answer.json() == {"result": {"auth": "ada", "source": "rpc", "type": "user"}}
    assert (await client.post("/rpc/things:whoami", json={})).json()["result"]["auth"] is None


async def test_a_broken_resolver_tells_the_log_and_not_the_client(client: httpx.AsyncClient) -> None:
    answer = await client.post("/rpc/things:whoami", json={}, headers={"X-User": "broken"})
    assert (answer.status_code, error(answer)) == (500, "INTERNAL")
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("name", ["Authorization", "Idempotency-Key"])
async def test_a_header_that_says_two_things_is_refused(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post(
        "/rpc/things:keep",
        content=b'{"text": "a"}',
        headers=[("Content-Type", "application/json"), (name, "Bearer a"), (name, "Bearer b")],
    )
    assert (answer.status_code, error(answer)) == (400, "BAD_REQUEST")


async def test_what_an_error_inside_says_stays_inside(client: httpx.AsyncClient) -> None:
    """InvalidArgs that a body raises is the app's own mistake, not its client's."""
    answer = await client.post("/rpc/things:mistaken", json={})
    assert (answer.status_code, error(answer)) == (500, "INTERNAL")
    assert "inside" not in answer.json()["error"]["message"].replace("the inside", "")


async def test_a_client_that_goes_away_stops_nothing(site: Site) -> None:
    """Whether the answer can still be given or not: what was begun runs to its end."""
    messages = iter([{"type": "http.request", "body": b'{"text": "a"}', "more_body": False}])

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def gone(message: Any) -> None:
        raise OSError("the connection is closed")

    scope = {
        "type": "http", "method": "POST", "path": "/rpc/things:keep", "raw_path": b"", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")], "scheme": "http", "server": ("testserver", 80),
        "client": ("10.0.0.1", 1), "http_version": "1.1",
    }  # fmt: skip
    with pytest.raises((OSError, RuntimeError)):
        await site.asgi(scope, receive, gone)
    assert [row["text"] for row in await site.app.call("things:rows")] == ["a"]


async def test_a_body_that_breaks_off_runs_nothing(site: Site) -> None:
    messages = iter([{"type": "http.request", "body": b'{"text": "a"}', "more_body": True}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/rpc/things:keep", "raw_path": b"", "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json")], "scheme": "http", "server": ("testserver", 80),
        "client": ("10.0.0.1", 1), "http_version": "1.1",
    }  # fmt: skip
    await site.asgi(scope, receive, send)
    assert [message["status"] for message in sent if "status" in message] in ([400], [])
    assert await site.app.call("things:rows") == []


# ------------------------------------------------------------------ idempotency keys


async def keep_(client: httpx.AsyncClient, key: str, user: str | None = None, text: str = "a") -> httpx.Response:
    headers = {"Idempotency-Key": key, **({"X-User": user} if user is not None else {})}
    return await client.post("/rpc/things:keep", json={"text": text}, headers=headers)


async def test_a_call_that_is_sent_again_takes_effect_once(site: Site, client: httpx.AsyncClient) -> None:
    first, again, other = [await keep_(client, key) for key in ("k1", "k1", "k2")]
    assert (first.json(), again.json(), other.json()) == ({"result": 1}, {"result": 1}, {"result": 2})


NOT_KEPT = {
    "whole",
    "text",
    "not a number",
    "infinite",
    "dataclass",
    "model without a number",
}  # no values of the store: see what is said then


@pytest.mark.parametrize("what", sorted(RETURNED.keys() - {"span"}))
async def test_a_resend_gets_the_first_answer(client: httpx.AsyncClient, what: str) -> None:
    """It comes from the file, and reads as it did; what the file can't keep is a conflict that says that it happened."""
    first, again = [
        await client.post("/rpc/things:give_once", json={"what": what}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]
    assert first.status_code == 200
    if what in NOT_KEPT:
        assert (again.status_code, error(again)) == (409, "KEY_CONFLICT")
        assert "succeeded" in again.json()["error"]["message"]
    else:
        assert again.text == first.text


async def test_a_resend_gets_the_first_answer_in_the_form_that_the_hint_says(client: httpx.AsyncClient) -> None:
    answers = [await client.post("/rpc/things:last", json={}, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert [answer.json() for answer in answers] == [{"result": "PT1H30M"}] * 2


async def test_one_key_stands_for_one_call(client: httpx.AsyncClient) -> None:
    await keep_(client, "k1")
    answer = await keep_(client, "k1", text="b")
    assert (answer.status_code, error(answer)) == (409, "KEY_CONFLICT")
    assert "this Idempotency-Key was used for things:keep with other arguments" in answer.json()["error"]["message"]
    assert "rpc:" not in answer.text


async def test_the_keys_of_one_caller_are_not_those_of_another(site: Site, client: httpx.AsyncClient) -> None:
    """Else whoever guesses a key would get the answer to somebody else's call, and their own would not run."""
    answers = [await keep_(client, "k1", user) for user in ("ada", "bob", None, "ada")]
    assert [answer.json()["result"] for answer in answers] == [1, 2, 3, 1]


async def test_a_fresh_token_is_the_same_caller(client: httpx.AsyncClient) -> None:
    claims = [{"sub": "ada", "tenant": 1, "exp": 1, "jti": "a"}, {"sub": "ada", "tenant": 1, "exp": 2, "jti": "b"}]
    other = {"sub": "ada", "tenant": 2, "exp": 1, "jti": "a"}
    answers = [await keep_(client, "k1", json.dumps(user)) for user in (*claims, other)]
    assert [answer.json()["result"] for answer in answers] == [1, 1, 2]


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "a" * 257, "a\tb"])
async def test_a_key_is_printable(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post(
        "/rpc/things:keep", json={"text": "a"}, headers=httpx.Headers([(b"Idempotency-Key", key.encode())])
    )
    assert (answer.status_code, error(answer)) == (400, "BAD_REQUEST")
    assert (await keep_(client, "a" * 256)).status_code == 200


@pytest.mark.parametrize("path", ["things:act", "things:rows"])
async def test_only_a_mutation_can_be_recorded(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(f"/rpc/{path}", json={}, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, error(answer)) == (400, "WRONG_KIND")


@dataclasses.dataclass
class Client:
    token: SecretStr
    roles: frozenset[str]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Client(SecretStr("a"), frozenset()), Client(SecretStr("b"), frozenset()), False),
        (Client(SecretStr("a"), frozenset("xyz")), Client(SecretStr("a"), frozenset("zyx")), True),
        (Nested(secret=b"a"), Nested(secret=b"b"), False),
        (("1", "2"), ("2", "1"), False),
        ({"id": 1}, {"id": "1"}, False),
        ("1", 1, False),
        (None, "None", False),
        ({"exp": 1}, {"exp": 2}, False),  # no claims of a token: it does not say whose it is
    ],
)
def test_callers_are_told_apart_by_all_that_the_resolver_returned(one: Any, other: Any, same: bool) -> None:
    """What is hidden when it is shown counts as well: two clients are not one because both their tokens are asterisks."""
    assert (_scoped("k", one) == _scoped("k", other)) is same
    assert _scoped("k", one) == _scoped("k", one) != _scoped("k2", one)


async def test_callers_who_can_not_be_told_apart_have_no_keys() -> None:
    async def opaque(request: AuthRequest) -> Any:
        return Opaque()

    app = App[Any]("app.db", auth=opaque, namespaces=[ns])
    app.schema("CREATE TABLE things (id INTEGER PRIMARY KEY, text TEXT NOT NULL, who TEXT)")
    async with Harness(app), app_client(app) as client:
        assert (await keep_(client, "k")).status_code == 400
        assert (await client.post("/rpc/things:keep", json={"text": "a"})).status_code == 200


# ------------------------------------------------------------------ what the app can't take


async def test_over_quota_nothing_has_run_and_a_client_is_told_to_wait() -> None:
    app = make(quota=Quota(lambda auth: auth, calls="2/m"))
    async with Harness(app), app_client(app) as client:
        statuses = [(await keep_(client, f"k{n}", "ada")).status_code for n in range(4)]
        assert statuses == [200, 200, 429, 429]
        answer = await keep_(client, "k", "ada")
        assert (error(answer), int(answer.headers["retry-after"]) >= 1) == ("OVERLOADED", True)
        assert (await keep_(client, "k", "bob")).status_code == 200
        assert len(await app.call("things:rows")) == 3


async def test_an_app_that_does_not_run_answers_503() -> None:
    async with app_client(make()) as client:
        answer = await client.post("/rpc/things:keep", json={"text": "a"})
    assert (answer.status_code, error(answer)) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"]


async def test_rpc_can_be_switched_off(site: Site) -> None:
    transport = httpx.ASGITransport(app=site.app.asgi(http=Http(rpc=False)))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.post("/rpc/things:rows", json={})).status_code == 404


async def test_a_model_has_the_json_form_that_it_declares() -> None:
    """Bytes that are no text have none in pydantic, unless the model says how; the call's effect stands all the same."""
    with pytest.raises(ValueError, match="utf-8"):
        shown(Nested())
    assert shown(Nested(secret=b"text")) == {"secret": "text"}
