"""The matrix of authentication: every route, and everything that must not get through its door.

A route that has no row here fails the test, and so does a row whose route is gone: nothing is open by oversight.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, Literal, NamedTuple

import httpx
import pytest

from runtime import Secrets
from runtime.http.guard import COOKIE
from runtime.http.routes import Route
from runtime.http.tables import TABLES
from runtime.testing import Harness
from tests.http.conftest import DISPATCH, NEXT, OPERATE, READ, Site, cookie_at, make_app, make_http

Door = Literal["open", "rpc", "dispatch", "read", "operate", "login", "page"]
KEYS: Final = {"operate": OPERATE, "read": READ, "dispatch": DISPATCH}
OTHERS: Final = {  # who holds a valid secret, but of another door, and what it is told
    "operate": {READ: 403, DISPATCH: 401},
    "read": {DISPATCH: 401},
    "dispatch": {OPERATE: 401, READ: 401},
}
ROTATED_OUT: Final = "rotated-out-Xq3Lm8Vn5Zb1Ck7Wp4Ht9Rd2Gs6"


class Row(NamedTuple):
    """What a route must be like, written down a second time, and one address of it."""

    door: Door
    address: str


JOB: Final = "0" * 32
ROWS: Final[dict[tuple[str, str], Row]] = {
    ("GET", "/healthz"): Row("open", "/healthz"),
    ("GET", "/readyz"): Row("open", "/readyz"),
    ("GET", "/openapi.json"): Row("open", "/openapi.json"),
    ("GET", "/metrics"): Row("read", "/metrics"),
    ("POST", "/rpc/{path}"): Row("rpc", "/rpc/notes:count"),
    ("GET", "/schedules"): Row("dispatch", "/schedules"),
    ("POST", "/schedules/{name:path}/dispatch"): Row("dispatch", "/schedules/outside/hourly/dispatch"),
    ("GET", "/schedules/{name:path}/dispatch"): Row("dispatch", "/schedules/outside/hourly/dispatch"),
    ("GET", "/tick"): Row("dispatch", "/tick"),
    ("POST", "/tick"): Row("dispatch", "/tick"),
    ("GET", "/admin/me"): Row("read", "/admin/me"),
    ("GET", "/admin/stats"): Row("read", "/admin/stats"),
    ("GET", "/admin/upcoming"): Row("read", "/admin/upcoming"),
    ("GET", "/admin/jobs"): Row("read", "/admin/jobs"),
    ("POST", "/admin/jobs"): Row("operate", "/admin/jobs"),
    ("GET", "/admin/jobs/count"): Row("read", "/admin/jobs/count"),
    ("GET", "/admin/jobs/{id}"): Row("read", f"/admin/jobs/{JOB}"),
    ("POST", "/admin/jobs/{id}/cancel"): Row("operate", f"/admin/jobs/{JOB}/cancel"),
    ("POST", "/admin/jobs/{id}/retry"): Row("operate", f"/admin/jobs/{JOB}/retry"),
    ("POST", "/admin/jobs/{id}/drop"): Row("operate", f"/admin/jobs/{JOB}/drop"),
    ("POST", "/admin/jobs/{id}/promote"): Row("operate", f"/admin/jobs/{JOB}/promote"),
    ("POST", "/admin/jobs/bulk"): Row("operate", "/admin/jobs/bulk"),
    ("POST", "/admin/call"): Row("operate", "/admin/call"),
    ("GET", "/admin/functions"): Row("read", "/admin/functions"),
    ("GET", "/admin/crons"): Row("read", "/admin/crons"),
    ("GET", "/admin/cron"): Row("read", "/admin/cron?name=sweep"),
    ("GET", "/admin/cron/preview"): Row("read", "/admin/cron/preview?name=sweep"),
    ("GET", "/admin/cron/runs"): Row("read", "/admin/cron/runs"),
    ("POST", "/admin/cron/run"): Row("operate", "/admin/cron/run"),
    ("POST", "/admin/cron/pause"): Row("operate", "/admin/cron/pause"),
    ("POST", "/admin/cron/resume"): Row("operate", "/admin/cron/resume"),
    ("GET", "/admin/cron/manifests"): Row("read", "/admin/cron/manifests"),
    ("POST", "/admin/cron/manifests"): Row("operate", "/admin/cron/manifests"),
    ("POST", "/admin/cron/manifests/activate"): Row("operate", "/admin/cron/manifests/activate"),
    ("GET", "/admin/pools"): Row("read", "/admin/pools"),
    ("POST", "/admin/pools"): Row("operate", "/admin/pools"),
    ("POST", "/admin/pause"): Row("operate", "/admin/pause"),
    ("POST", "/admin/resume"): Row("operate", "/admin/resume"),
    ("GET", "/admin/events"): Row("read", "/admin/events"),
    ("POST", "/admin/backup"): Row("operate", "/admin/backup"),
    ("GET", "/admin/doctor"): Row("read", "/admin/doctor"),
    ("GET", "/admin/audit"): Row("operate", "/admin/audit"),
    ("GET", "/admin/openapi.json"): Row("read", "/admin/openapi.json"),
    ("GET", "/dashboard"): Row("page", "/dashboard"),
    ("GET", "/dashboard/{asset}"): Row("page", "/dashboard/style.css"),
    ("POST", "/dashboard/login"): Row("login", "/dashboard/login"),
    ("POST", "/dashboard/logout"): Row("read", "/dashboard/logout"),
}
STREAMS: Final = {"/admin/events"}  # whose answer has no end


def rows(*doors: Door, method: str | None = None) -> list[Any]:
    return [
        pytest.param(verb, row, id=f"{verb} {path}")
        for (verb, path), row in ROWS.items()
        if row.door in doors and method in {None, verb}
    ]


SECRET: Final = ("read", "operate", "dispatch")


@pytest.fixture
async def anybody(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client(None) as client:
        yield client


def with_key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_every_route_has_its_row_and_every_row_its_route() -> None:
    def key(route: Route) -> tuple[str, str]:
        return route.method, route.path

    assert {key(route): route.door for route in TABLES} == {where: row.door for where, row in ROWS.items()}
    assert len({key(route) for route in TABLES}) == len(TABLES)


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET))
async def test_nobody_without_a_right_secret(verb: str, row: Row, site: Site, anybody: httpx.AsyncClient) -> None:
    """None, wrong, empty, of the wrong scheme, twice, in the address, in a cookie: one answer to all of them."""
    secrets = {"read": site.http.read, "operate": site.http.operate, "dispatch": site.http.dispatch}[row.door]
    assert secrets is not None
    right = KEYS[row.door]
    key = "?" if "?" not in row.address else "&"
    bodies = set()
    tries: list[tuple[str, Any]] = [
        (row.address, {}),
        (row.address, with_key("wrong-" + right)),
        (row.address, with_key(right[:-1])),
        (row.address, with_key("")),
        (row.address, {"Authorization": f"Basic {right}"}),
        (row.address, {"Authorization": right}),
        (row.address, [("Authorization", f"Bearer {right}"), ("Authorization", f"Bearer {right}")]),
        (row.address, {"Authorization": "Bearer schl\u00fcssel".encode("latin-1")}),
        (row.address, {"X-Forwarded-Authorization": f"Bearer {right}", "X-Api-Key": right}),
        (row.address, {"Cookie": f"{cookie_at('testserver')}={right}; {COOKIE}={right}"}),
        (f"{row.address}{key}token={right}&key={right}", {}),
    ]
    for address, headers in tries:
        response = await anybody.request(verb, address, headers=headers)
        assert code(response) == (401, "UNAUTHORIZED"), (address, headers)
        assert response.headers["WWW-Authenticate"] == "Bearer"
        bodies.add(response.json()["error"]["message"])
    assert len(bodies) == 1


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET))
async def test_a_secret_that_was_rotated_out_is_none(verb: str, row: Row) -> None:
    held = {name: Secrets(key) for name, key in KEYS.items()}
    held[row.door] = Secrets(ROTATED_OUT, KEYS[row.door])
    app, http = make_app(), make_http(**held)
    async with Harness(app) as harness:
        async with Site(app, harness, http, app.asgi(http=http)).client(ROTATED_OUT) as client:
            if row.address not in STREAMS:
                assert (await client.request(verb, row.address)).status_code not in {401, 403}
            held[row.door].rotate(KEYS[row.door], NEXT)
            assert code(await client.request(verb, row.address)) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET))
async def test_a_secret_of_another_door_does_not_open_this_one(verb: str, row: Row, anybody: httpx.AsyncClient) -> None:
    for key, status in OTHERS[row.door].items():
        response = await anybody.request(verb, row.address, headers=with_key(key))
        assert response.status_code == status


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET, "open", "rpc", "login", "page"))
async def test_another_method_is_refused_and_only_the_known_are_told_which_there_are(
    verb: str, row: Row, anybody: httpx.AsyncClient
) -> None:
    known = {method for (method, _), other in ROWS.items() if other.address == row.address}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"} - known:
        if row.door in KEYS:
            assert code(await anybody.request(method, row.address)) == (401, "UNAUTHORIZED")
        response = await anybody.request(
            method, row.address, headers=with_key(OPERATE if row.door != "dispatch" else DISPATCH)
        )
        assert code(response) == (405, "METHOD_NOT_ALLOWED")
        assert set(response.headers["Allow"].split(", ")) == known
        overriding = {"X-HTTP-Method-Override": verb, "X-Method-Override": verb}
        assert (await anybody.request(method, row.address, headers=overriding)).status_code in {401, 405}


@pytest.mark.parametrize(("verb", "row"), rows("read", "operate"))
async def test_another_site_gets_nowhere_with_an_operators_browser(
    verb: str, row: Row, site: Site, anybody: httpx.AsyncClient
) -> None:
    sessions = site.asgi.routes[0].endpoint._doors._guard.sessions
    assert site.http.operate is not None
    key_id = site.http.operate.match(OPERATE)
    cookie = {"Cookie": f"{cookie_at('testserver')}={sessions.begin('operate', key_id)}"}
    json = {"Content-Type": "application/json"}
    ours = {**json, "X-Actor-Scheduler": "1", "Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    foreign: list[dict[str, str]] = [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {**ours, "Sec-Fetch-Site": "cross-site"},
    ]
    if verb == "POST":
        foreign += [
            {},
            json,
            {**json, "X-Actor-Scheduler": "1"},
            {**ours, "Origin": "https://elsewhere.example"},
            {**ours, "Origin": "null"},
            {name: value for name, value in ours.items() if name != "X-Actor-Scheduler"},
            {**ours, "Sec-Fetch-Site": "none"},
        ]
    for headers in foreign:
        response = await anybody.request(verb, row.address, headers={**cookie, **headers})
        assert code(response) == (403, "CROSS_SITE"), headers
    if verb == "POST":
        for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
            response = await anybody.request(verb, row.address, headers={**cookie, **ours, "Content-Type": media})
            assert code(response) == (415, "UNSUPPORTED_MEDIA_TYPE")
    if row.address not in STREAMS:
        response = await anybody.request(verb, row.address, headers={**cookie, **ours})
        assert response.status_code not in {401, 403, 415}


def key_for(row: Row) -> dict[str, str]:
    return with_key(KEYS[row.door]) if row.door in KEYS else {}


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET, "rpc", "login", method="POST"))
async def test_a_body_that_is_too_large_is_refused_however_it_is_sent(
    verb: str, row: Row, site: Site, anybody: httpx.AsyncClient
) -> None:
    most = next(route.body_max for route in TABLES if ROWS[route.method, route.path] == row) or 1 << 20

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * (most // 16)

    headers = {**key_for(row), "Content-Type": "application/json"}
    for content in (b" " * (most + 1), parts()):
        response = await anybody.request(verb, row.address, headers=headers, content=content)
        assert code(response) == (413, "BODY_TOO_LARGE")


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET, "rpc", "login", method="POST"))
async def test_a_body_that_never_ends_is_given_up(verb: str, row: Row, site: Site) -> None:
    asgi = site.app.asgi(http=make_http(body_seconds=0.01))

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.get_running_loop().create_future()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi), base_url="http://testserver") as client:
        headers = {**key_for(row), "Content-Type": "application/json"}
        response = await client.request(verb, row.address, headers=headers, content=never())
    assert code(response) == (408, "SLOW_BODY")


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET, "rpc", "login", method="POST"))
async def test_only_json_is_read(verb: str, row: Row, anybody: httpx.AsyncClient) -> None:
    for media in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json"):
        headers = {**key_for(row), "Content-Type": media}
        response = await anybody.request(verb, row.address, headers=headers, content=b"{}")
        assert code(response) == (415, "UNSUPPORTED_MEDIA_TYPE")
    headers = {**key_for(row), "Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert code(await anybody.request(verb, row.address, headers=headers, content=b"{}"))[0] == 415
    headers = {**key_for(row), "Content-Type": "application/json"}
    response = await anybody.request(verb, row.address, headers=headers, content=b'{"a": 1, "a": 2}')
    assert code(response) == (400, "BAD_JSON")


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET, "login", "page"))
async def test_a_door_without_a_secret_does_not_exist(verb: str, row: Row, site: Site) -> None:
    closed = site.app.asgi(http=make_http(operate=None, read=None, dispatch=None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=closed), base_url="http://testserver") as client:
        for headers in ({}, key_for(row)):
            assert code(await client.request(verb, row.address, headers=headers)) == (404, "NOT_FOUND")


@pytest.mark.parametrize(("verb", "row"), rows(*SECRET, "open", "rpc", "login", "page"))
async def test_every_answer_says_how_it_is_to_be_treated(verb: str, row: Row, anybody: httpx.AsyncClient) -> None:
    if row.address in STREAMS:
        return
    for headers in ({}, key_for(row)):
        response = await anybody.request(verb, row.address, headers=headers)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "no-store" in response.headers["Cache-Control"]
        assert len(response.headers["X-Request-Id"]) == 16
        assert not [name for name in response.headers if name.lower().startswith("access-control")]
        if row.address.startswith("/admin") and response.headers["content-type"] == "application/json":
            assert response.headers["Content-Disposition"].startswith("attachment")
