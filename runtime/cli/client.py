"""The one way a command reaches an app: its administration over HTTP. A closed file is served by this process itself.

So a command does on a closed file just what it does to a running app, through the same routes and the same checks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from actor_scheduler.clock import Clock, SystemClock
from actor_scheduler.errors import ActorSchedulerError, DatabaseLocked
from runtime.cli.arguments import check_there
from runtime.cli.keys import URL, check_url, is_loopback, read_key
from runtime.cli.trouble import MISSING, REFUSED, UNREACHED, USAGE, Trouble, Unreachable
from runtime.http.options import Http
from runtime.http.secrets import Secrets
from runtime.offline import OfflineApp, check_private, in_use

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

_CONNECT_SECONDS: Final = 10.0
_PATH: Final = ": is the path right? It is the one below which the app is mounted, as in http://host/scheduler."
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a command stands in: the clock, whether people look on, and the way to an app; tests put in their own."""

    clock: Clock = field(default_factory=SystemClock)
    people: bool | None = None
    transport: Callable[[], AbstractAsyncContextManager[httpx.AsyncBaseTransport]] | None = None

    def now(self) -> datetime:
        """Return what time it is."""
        return _EPOCH + timedelta(microseconds=self.clock.now_us())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Which app a command is about, and how it is reached."""

    url: str | None = None
    db: str | None = None
    key_file: str | None = None
    insecure_http: bool = False
    seconds: float = 60.0


class Client:
    """A connection to the administration of one app. Whatever goes wrong is a Trouble."""

    def __init__(self, http: httpx.AsyncClient, where: str, *, closed: bool) -> None:
        self._http = http
        self.where = where
        self.closed = closed  # a file that no app has open

    async def get(self, path: str, /, **query: Any) -> Any:
        """Return the document at a path; parameters that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return await self._ask("GET", path, params=given)

    async def post(self, path: str, body: Mapping[str, Any] | None = None, /, *, patient: bool = False) -> Any:
        """Send a document and return the answer; `patient`: however long it takes."""
        given: dict[str, Any] = {"json": dict(body or {})}
        if patient:
            given["timeout"] = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        return await self._ask("POST", path, **given)

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        with self._troubles():
            response = await self._http.request(method, f"admin/{path}", **options)
        if not response.is_success:
            raise await self._refusal(response)
        try:
            return response.json()
        except (ValueError, UnicodeError, RecursionError):
            raise Trouble(UNREACHED, f"{self.where} does not answer as an app's administration does{_PATH}") from None

    @contextlib.asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """Give an answer that is read piece by piece, however long it takes."""
        patience = httpx.Timeout(None, connect=_CONNECT_SECONDS)
        with self._troubles():
            async with self._http.stream(method, f"admin/{path}", timeout=patience, **options) as response:
                if not response.is_success:
                    await response.aread()
                    raise await self._refusal(response)
                yield response

    @contextlib.contextmanager
    def _troubles(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException:
            raise Unreachable(f"{self.where} did not answer in time (--timeout)") from None
        except httpx.TransportError as error:
            raise Unreachable(f"{self.where} can't be reached: {str(error) or type(error).__name__}") from None

    async def _refusal(self, response: httpx.Response) -> Trouble:
        status = response.status_code
        if response.is_redirect:
            to = response.headers.get("location", "elsewhere")
            return Trouble(UNREACHED, f"{self.where} redirects to {to!r:.200}: a key is not sent there")
        told = _error_of(response)
        if told is None:
            hint = "" if status >= 500 else _PATH
            return Trouble(UNREACHED, f"{self.where} answers {status}, and not as an app's administration does{hint}")
        message, code = str(told.get("message", "")), str(told.get("code", ""))
        if status == httpx.codes.UNAUTHORIZED:
            return Trouble(UNREACHED, f"{self.where} does not accept this key")
        if status == httpx.codes.FORBIDDEN:
            return Trouble(UNREACHED, f"{self.where}: {message}")
        if status == httpx.codes.NOT_FOUND:
            if code == "NOT_FOUND" and await self._has_no_door():
                msg = f"{self.where} has no administration{_PATH} Has the server a deploy key?"
                return Trouble(UNREACHED, msg)
            return Trouble(MISSING, message)
        said = f"{message} [{code}, request {told.get('request_id', '?')}]" if status >= 500 else f"{message} [{code}]"
        return Trouble(REFUSED, said, code)

    async def _has_no_door(self) -> bool:
        """Return whether the paths of the administration do not exist: a job that is not there is another thing."""
        with contextlib.suppress(httpx.TransportError):
            return (await self._http.get("admin/me")).status_code == httpx.codes.NOT_FOUND
        return False

    def needs_app(self, what: str) -> None:
        """Refuse what a closed file can't do. Raises Trouble."""
        if self.closed:
            raise Trouble(USAGE, f"{what} needs the app's functions: start the app, and use --url instead of --db")


def _error_of(response: httpx.Response) -> dict[str, Any] | None:
    try:
        document = json.loads(response.content)
    except (ValueError, UnicodeError, RecursionError):
        return None
    error = document.get("error") if isinstance(document, dict) else None
    return error if isinstance(error, dict) else None


@contextlib.asynccontextmanager
async def connect(reach: Reach, world: World) -> AsyncIterator[Client]:
    """Reach the app that was named: over the network, or in a file that is opened for as long. Raises Trouble."""
    if reach.db is not None and reach.url is not None:
        raise Trouble(USAGE, "give --url or --db, not both")
    if reach.db is not None:
        async with _open_file(Path(reach.db), world) as client:
            yield client
        return
    given = reach.url if reach.url is not None else os.environ.get(URL)
    if not given:
        raise Trouble(USAGE, f"which app? Give --url (or {URL}) for a running one, --db for a closed file")
    url = check_url(given, insecure_http=reach.insecure_http)
    key = read_key(reach.key_file, os.environ)
    async with contextlib.AsyncExitStack() as stack:
        transport = await stack.enter_async_context(world.transport()) if world.transport is not None else None
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=url,
                headers=_headers(key),
                timeout=httpx.Timeout(reach.seconds, connect=min(_CONNECT_SECONDS, reach.seconds)),
                follow_redirects=False,
                trust_env=not is_loopback(url.host),
                transport=transport,
            )
        )
        yield Client(http, str(url), closed=False)


@contextlib.asynccontextmanager
async def _open_file(path: Path, world: World) -> AsyncIterator[Client]:
    check_there(path)
    key = secrets.token_urlsafe(32)  # nobody else can reach this surface; its doors are kept shut all the same
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            check_private(path)
            app = await stack.enter_async_context(OfflineApp(path, clock=world.clock))
        except DatabaseLocked:
            raise Trouble(REFUSED, in_use(path)) from None
        except ActorSchedulerError as error:
            raise Trouble(REFUSED, str(error)) from None
        surface = app.asgi(http=Http(operate=Secrets(key), rpc=False, openapi=False, dashboard=False))
        transport = httpx.ASGITransport(app=surface, raise_app_exceptions=False)
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url="http://localhost", headers=_headers(key), transport=transport, timeout=httpx.Timeout(None)
            )
        )
        yield Client(http, str(path), closed=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave warnings about what stands in a file to the answers: a paused scheduler, say."""
    log = logging.getLogger("actor_scheduler")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Accept": "application/json", "User-Agent": "actor-scheduler"}
