"""Who may pass a door. Everything about a request that decides that is looked at here, and nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from actor_scheduler.limits import RESOLVER_US_MAX, SECOND_US
from runtime.http.answers import Problem
from runtime.http.sessions import name_of
from runtime.http.who import Who

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from starlette.requests import Request

    from runtime.http.options import Http
    from runtime.http.secrets import Secrets
    from runtime.http.sessions import Sessions
    from runtime.http.who import Door, Role

COOKIE: Final = "__Host-actor_scheduler"  # the browser holds it to https, this host and all its paths
COOKIE_LOOPBACK: Final = "actor_scheduler"  # for http on this machine, where a secure one is not kept by all browsers
_MARK_CHARS: Final = 8
HEADER: Final = "x-actor-scheduler"  # no form and no link can send it
FAILURES_MAX: Final = 20  # of one peer within the span below
FAILURES_US: Final = 60 * SECOND_US
_PEERS_MAX: Final = 10_000
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}


class Guard:
    """The doors of one surface."""

    def __init__(self, http: Http, sessions: Sessions, monotonic_us: Callable[[], int]) -> None:
        self._http = http
        self.sessions = sessions
        self._monotonic_us = monotonic_us
        self._failures: OrderedDict[str, list[int]] = OrderedDict()

    # ------------------------------------------------------------ doors

    async def admit(self, door: Door, request: Request) -> Who | None:
        """Return who comes in; None where nobody has to say so. Raises Problem: 401, 403 or 429.

        A wrong secret, a missing one and one of another door get the same answer, after the same work.
        """
        match door:
            case "open" | "rpc":
                return None
            case "page" | "login":
                self.check_host(request)
                return None
            case "dispatch":
                return await self._dispatcher(request)
            case "read" | "operate":
                return self._operator(door, request)

    async def _dispatcher(self, request: Request) -> Who:
        key_id = _match(self._http.dispatch, bearer(request))
        if key_id is not None:
            return Who(role="dispatch", key_id=key_id, via="bearer", peer=peer_of(request))
        if await self._gateway_knows(request):
            return Who(role="dispatch", key_id="gateway", via="gateway", peer=peer_of(request))
        raise self.failed(request, guessed="authorization" in request.headers)

    async def _gateway_knows(self, request: Request) -> bool:
        if self._http.gateway is None:
            return False
        try:
            async with asyncio.timeout(RESOLVER_US_MAX / SECOND_US):
                return bool(await self._http.gateway(request))
        except TimeoutError:
            raise Problem(504, "TIMED_OUT", "the gateway did not answer") from None

    def _operator(self, door: Literal["read", "operate"], request: Request) -> Who:
        given = bearer(request)
        who = self.key_holder(given, request) if "authorization" in request.headers else self._browser(request)
        if who is None:
            raise self.failed(request, guessed="authorization" in request.headers)
        if door == "operate" and who.role != "operate":
            raise Problem(403, "FORBIDDEN", "this key may look, and change nothing")
        return who

    def key_holder(self, given: str | None, request: Request) -> Who | None:
        """Return who has this key, None when it is no active one."""
        operate, read = _match(self._http.operate, given), _match(self._http.read, given)
        role: Role = "operate" if operate is not None else "read"
        key_id = operate if operate is not None else read
        return Who(role=role, key_id=key_id, via="bearer", peer=peer_of(request)) if key_id is not None else None

    def failed(self, request: Request, *, guessed: bool = True) -> Problem:
        """Return the answer to who may not come in: 401, and 429 from the 21st wrong secret in a minute of a peer on.

        A right secret is let in all the same: who shares an address with a guesser is not locked out.  Only who gave a
        secret has guessed: a page whose session has ended has not.
        """
        if not guessed:
            return Problem(401, "UNAUTHORIZED", "a valid secret is needed", headers=_CHALLENGE)
        now_us, peer = self._monotonic_us(), peer_of(request)
        recent = [at_us for at_us in self._failures.pop(peer, []) if now_us - at_us < FAILURES_US]
        recent = [*recent[-FAILURES_MAX:], now_us]
        self._failures[peer] = recent
        if len(self._failures) > _PEERS_MAX:
            self._failures.popitem(last=False)
        if len(recent) > FAILURES_MAX:
            return Problem(429, "TOO_MANY_FAILURES", "too many wrong secrets", headers={"Retry-After": "60"})
        return Problem(401, "UNAUTHORIZED", "a valid secret is needed", headers=_CHALLENGE)

    # ------------------------------------------------------------ browsers

    def _browser(self, request: Request) -> Who | None:
        token = _cookie(request)
        found = self.sessions.use(token) if token is not None else None
        if found is None:
            return None
        name, session = found
        if not self._active(session.role, session.key_id):
            self.sessions.end(name)
            return None
        self.check_host(request)
        check_same_site(request)
        return Who(role=session.role, key_id=session.key_id, via="session", peer=peer_of(request), session=name)

    def session_of(self, request: Request) -> str | None:
        """Return the name of the session that a request comes with, whether or not it has ended."""
        token = _cookie(request)
        return name_of(token) if token is not None else None

    def still_valid(self, who: Who) -> bool:
        """Return whether who came in would be let in again."""
        if who.via == "gateway":
            return True
        if who.session is not None and not self.sessions.alive(who.session):
            return False
        return self._active(who.role, who.key_id)

    def _active(self, role: Role, key_id: str) -> bool:
        secrets = {"operate": self._http.operate, "read": self._http.read, "dispatch": self._http.dispatch}[role]
        return secrets is not None and secrets.active(key_id)

    def check_host(self, request: Request) -> None:
        """Refuse a name that is not this server's: a page of another site may have had it resolved to this address."""
        name = _host_name(request)
        if self._http.hosts is not None:
            allowed = name in {host.lower() for host in self._http.hosts}
        else:
            server = request.scope.get("server")
            allowed = not (server and is_loopback(str(server[0]))) or is_loopback(name)
        if not allowed:
            raise Problem(400, "BAD_HOST", "this host name is not served: see Http(hosts=…)")


def check_same_site(request: Request) -> None:
    """Refuse what another site may have made a browser send. Raises Problem (403).

    Reading: Sec-Fetch-Site, where a browser tells it, is same-origin, or none for an address that was typed in.
    Changing: it is same-origin, or Origin is this host; and a header stands there that no form and no link can send.
    """
    site = request.headers.get("sec-fetch-site")
    if request.method in {"GET", "HEAD"}:
        if site not in {None, "same-origin", "none"}:
            raise _cross_site()
        return
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != request.headers.get("host", "").lower():
        raise _cross_site()
    if (site is None and origin is None) or site not in {None, "same-origin"} or HEADER not in request.headers:
        raise _cross_site()


def _cross_site() -> Problem:
    return Problem(403, "CROSS_SITE", "a session works only from the page it was begun on")


def bearer(request: Request) -> str | None:
    """Return the bearer token of a request; None when there is none, or more than one."""
    given = request.headers.getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else None


def peer_of(request: Request) -> str:
    """Return the address a request came from, as the server knows it. Headers that claim another are the server's."""
    return request.client.host if request.client is not None else "-"


def is_loopback(name: str) -> bool:
    """Return whether this is a name or an address of the machine itself."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_name(request: Request) -> str:
    """Return the name in the Host header, without its port; empty when there is not exactly one."""
    given = request.headers.getlist("host")
    name = given[0].strip().lower() if len(given) == 1 else ""
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def _cookie(request: Request) -> str | None:
    return request.cookies.get(cookie_name(request))


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie for the way a request came.

    It bears a mark of the host, its port and the mount: cookies know neither ports nor, with this prefix, paths, and
    two apps beside each other must not log each other's operators out.
    """
    where = f"{request.headers.get('host', '').lower()}{request.scope.get('root_path', '')}"
    mark = hashlib.sha256(where.encode()).hexdigest()[:_MARK_CHARS]
    loopback = request.url.scheme == "http" and is_loopback(_host_name(request))
    return f"{COOKIE_LOOPBACK if loopback else COOKIE}_{mark}"


def _match(secrets: Secrets | None, given: str | None) -> str | None:
    return secrets.match(given) if secrets is not None else None
