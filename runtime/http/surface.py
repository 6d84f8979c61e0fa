"""The HTTP surface of an app: one table of routes, and what every request passes before it meets its handler."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route as StarletteRoute

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import InvalidArgs
from runtime.http.answers import Problem, problem_of
from runtime.http.audit import Audit
from runtime.http.guard import Guard
from runtime.http.options import Http
from runtime.http.reading import parse_json, read_body
from runtime.http.routes import Visit
from runtime.http.sessions import Sessions
from runtime.http.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from runtime.http.routes import Route
    from runtime.http.served import Served
    from runtime.http.who import Door, Who

_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_FIELDS_TOLD: Final = 20
NOWHERE: Final = "/-"  # a path that no route has


def make_surface(
    served: Served, given: Http | None, prefix: str, lifespan: Callable[[Any], AbstractAsyncContextManager[None]]
) -> ASGIApp:
    """Return the ASGI application that serves an app: alone, or mounted into another one. Raises InvalidArgs."""
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        msg = f"a prefix begins with a slash and ends with none, unlike {prefix!r:.80}"
        raise InvalidArgs(msg)
    http = given if given is not None else Http.from_env()
    doors = Doors(served, http)
    by_path: dict[str, list[Route]] = {}
    for route in TABLES:
        if is_open(route, http):
            by_path.setdefault(route.path, []).append(route)
    surface = Surface(
        routes=[
            StarletteRoute(f"{prefix}{path}", endpoint=Place(doors, routes), methods=None)
            for path, routes in by_path.items()
        ],
        exception_handlers={404: doors.not_found},
        lifespan=lifespan,
    )
    surface.router.redirect_slashes = False
    return surface


class Surface(Starlette):
    """The paths of an app. One with a slash behind it, or none before it, is the same path: Litestar mounts so."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "http":
            path = scope["path"].removesuffix("/")
            if not path.isprintable():  # the end of a pattern would let a line feed pass
                path = NOWHERE
            scope = {**scope, "path": path if path.startswith("/") else f"/{path}"}
        await super().__call__(scope, receive, send)


def is_open(route: Route, http: Http) -> bool:
    """Return whether a route exists at all: a door without a secret is no door."""
    on: dict[Door, bool] = {
        "open": True,
        "rpc": http.rpc,
        "dispatch": http.dispatched,
        "read": http.administered,
        "operate": http.administered,
        "login": http.administered and http.dashboard,
        "page": http.administered and http.dashboard,
    }
    return on[route.door] and (route.path != "/openapi.json" or http.openapi)


class Doors:
    """What all routes of one surface share, and the way every request goes."""

    def __init__(self, served: Served, http: Http) -> None:
        self._served = served
        self._http = http
        self._guard = Guard(http, Sessions(monotonic_us), monotonic_us)
        self._trail = Audit(served.now)

    async def serve(self, routes: Sequence[Route], request: Request, request_id: str) -> Response:
        """Return the answer to a request to a path. Raises what problem_of makes an answer of."""
        route = next((each for each in routes if each.method == _method(request, each)), None)
        # Who may not come in is told nothing else, not even which methods there are.
        who = await self._guard.admit((route or routes[0]).door, request)
        if route is None:
            methods = ", ".join(sorted({each.method for each in routes}))
            message = f"{request.method[:20]} is not served here, but {methods}"
            raise Problem(405, "METHOD_NOT_ALLOWED", message, headers={"Allow": methods})
        if route.method == "POST":
            check_media(request, who)
        visit = Visit(
            request=request,
            request_id=request_id,
            served=self._served,
            http=self._http,
            guard=self._guard,
            who=who,
            query=self._query(route, request),
            body=await self._body(route, request) if route.method == "POST" and route.door != "rpc" else None,
            trail=self._trail,
        )
        return await route.handler(visit)

    def _query(self, route: Route, request: Request) -> Any:
        given = request.query_params.multi_items()
        found = dict(given)
        if len(found) < len(given):
            raise Problem(400, "INVALID_QUERY", "a parameter is given twice")
        if route.query is None:
            if found:
                raise Problem(400, "INVALID_QUERY", "this path takes no parameters")
            return None
        return _validated(route.query, found, "INVALID_QUERY")

    async def _body(self, route: Route, request: Request) -> Any:
        data = await read_body(request, route.body_max or self._http.body_max, self._http.body_seconds)
        document = parse_json(data) if data.strip() else {}
        if route.body is None:
            if document != {}:
                raise Problem(400, "INVALID_BODY", "this path takes no body, or {}")
            return None
        return _validated(route.body, document, "INVALID_BODY")

    async def not_found(self, request: Request, _: Exception) -> Response:
        """Answer a request to a path that is none."""
        request_id = new_request_id()
        return _finished(Problem(404, "NOT_FOUND", "there is nothing here").response(request_id), request_id, None)


class Place:
    """One path, with all its methods, as an ASGI application. Whatever happens, its answer is a JSON document."""

    def __init__(self, doors: Doors, routes: Sequence[Route]) -> None:
        self._doors = doors
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        request_id = new_request_id()
        try:
            response = await self._doors.serve(self.routes, request, request_id)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - no error of a function may reach the server as one of ours
            trusted = self.routes[0].door in {"read", "operate"}
            response = problem_of(error, request_id, trusted=trusted).response(request_id)
        await _finished(response, request_id, self.routes[0].door)(scope, receive, send)


def _method(request: Request, route: Route) -> str:
    """Return the method a request asks for; HEAD is GET where anybody may look."""
    return "GET" if request.method == "HEAD" and route.door in {"open", "page"} else request.method


def check_media(request: Request, who: Who | None) -> None:
    """Refuse a body that is not JSON, before it is read. Raises Problem (415).

    An empty body needs no type, but from a browser, where a form could have sent it.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "bodies are not compressed here")
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == "application/json":
        return
    empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    if not (empty and who is not None and who.via != "session"):
        raise Problem(415, "UNSUPPORTED_MEDIA_TYPE", "the body is application/json")


def _validated(model: type[BaseModel], given: Any, code: str) -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        # Not what was given: it may be a secret in the wrong place.
        fields = [
            {"field": ".".join(map(str, each["loc"])), "message": each["msg"]}
            for each in error.errors(include_url=False, include_context=False, include_input=False)[:_FIELDS_TOLD]
        ]
        told = "; ".join(f"{each['field']}: {each['message']}" for each in fields)
        raise Problem(400, code, told, {"fields": fields}) from None


def _finished(response: Response, request_id: str, door: Door | None) -> Response:
    """Add what every answer carries."""
    headers: Mapping[str, str] = {**_HEADERS, "X-Request-Id": request_id}
    for name, value in headers.items():
        if name not in response.headers:
            response.headers[name] = value
    if door in {"read", "operate"} and response.headers.get("content-type") == "application/json":
        response.headers["Content-Disposition"] = 'attachment; filename="answer.json"'
    return response


def new_request_id() -> str:
    """Return an id to find a request in the log by."""
    return secrets.token_hex(8)
