"""The dashboard: static files that hold no data, and the exchange of a key for a browser's session.

Everything the page shows comes from `/admin`, through the same doors as for everybody else.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from runtime.http.answers import Problem, answer
from runtime.http.guard import check_same_site, cookie_name
from runtime.http.plain import moment
from runtime.http.routes import Route
from runtime.http.sessions import LIFE_US

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from runtime.http.routes import Visit

_MEDIA: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing from elsewhere, nothing inline, in no frame; and no feature of the browser that the page does not use.
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; object-src 'none'; frame-ancestors 'none'; form-action 'self'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
INDEX: Final = "index.html"
_KEY_CHARS_MAX: Final = 4096
_LIFE_SECONDS: Final = LIFE_US // 1_000_000


class LoginAsked(BaseModel):
    """A key, to be exchanged for a session."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key: Annotated[str, Field(max_length=_KEY_CHARS_MAX)]


@cache
def assets() -> Mapping[str, bytes]:
    """Return every file of the page by its name. Read once: what is not in here does not exist."""
    folder = files("runtime.http").joinpath("pages")
    return {each.name: each.read_bytes() for each in folder.iterdir() if _suffix(each.name) in _MEDIA}


def _suffix(name: str) -> str:
    return name[name.rfind(".") :] if "." in name else ""


async def show_page(visit: Visit) -> Response:
    """Answer the page itself; with a slash behind its path, the way to it: what it loads is beside it, not below."""
    if visit.request.scope.get("raw_path", b"").partition(b"?")[0].endswith(b"/"):
        return Response(status_code=307, headers={**HEADERS, "Location": "../dashboard"})
    return _file(INDEX)


async def show_asset(visit: Visit) -> Response:
    """Answer a script, a style or a picture of the page. Raises Problem (404)."""
    name = visit.request.path_params["asset"]
    if name == INDEX or name not in assets():
        raise Problem(404, "NOT_FOUND", "there is nothing here", headers=HEADERS)
    return _file(name)


def _file(name: str) -> Response:
    return Response(assets()[name], headers={**HEADERS, "Content-Type": _MEDIA[_suffix(name)]})


async def log_in(visit: Visit) -> Response:
    """Exchange a key for a session, and set its cookie. A session that the browser had before ends.

    Raises Problem: 401 for a wrong key, 429 after too many of them, 403 from another site.
    """
    asked: LoginAsked = visit.body
    check_same_site(visit.request)
    who = visit.guard.key_holder(asked.key, visit.request)
    if who is None or who.role == "dispatch":
        visit.audit("log in", "dashboard", "refused")
        raise visit.guard.failed(visit.request)
    _end(visit)
    token = visit.guard.sessions.begin(who.role, who.key_id)
    visit.trail.note(who, "log in", "dashboard", who.role, visit.request_id)
    ends_at = visit.served.now() + timedelta(microseconds=LIFE_US)
    response = answer({"role": who.role, "expires_at": moment(ends_at)}, headers=HEADERS)
    _set_cookie(response, visit.request, token, _LIFE_SECONDS)
    return response


async def log_out(visit: Visit) -> Response:
    """End the session that the request came with, and take its cookie away."""
    _end(visit)
    response = answer({}, headers=HEADERS)
    _set_cookie(response, visit.request, "", 0)
    return response


def _end(visit: Visit) -> None:
    name = visit.guard.session_of(visit.request)
    if name is not None:
        visit.guard.sessions.end(name)


def _set_cookie(response: Response, request: Request, token: str, seconds: int) -> None:
    name = cookie_name(request)
    secure = name.startswith("__Host-")
    response.set_cookie(name, token, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict")


_STATIC: Final = {200: "the file", 400: "the host name is not served"}

ROUTES: Final[tuple[Route, ...]] = (  # the first path that fits is taken: an asset's comes last
    Route(
        method="GET", path="/dashboard", door="page", handler=show_page, summary="The dashboard",
        answers={**_STATIC, 307: "the path had a slash behind it"},
    ),
    Route(
        method="POST", path="/dashboard/login", door="login", handler=log_in, body=LoginAsked,
        summary="Exchange a key for a browser's session",
        answers={200: "the role of the key, and when the session ends at the latest", 401: "the key is wrong",
                 403: "another site may have sent it", 429: "too many wrong keys"},
    ),
    Route(
        method="POST", path="/dashboard/logout", door="read", handler=log_out, summary="End a browser's session",
        answers={200: "the session has ended"},
    ),
    Route(
        method="GET", path="/dashboard/{asset}", door="page", handler=show_asset, summary="A file of the dashboard",
        answers={**_STATIC, 404: "there is no such file"},
    ),
)  # fmt: skip
