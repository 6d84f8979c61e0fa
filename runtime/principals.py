"""Whom a call acts as: parts of which an app puts its one `auth` resolver together.

A principal comes from what a caller proves: a header of a request, or that it is the scheduler itself that calls.  It
never comes from a URL, and not from the secret that lets an outside clock in: that one says who may tell the time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from actor_scheduler.errors import FunctionError, InvalidArgs
from runtime.http.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from runtime.engine import AuthRequest

P = TypeVar("P")

Resolver: TypeAlias = "Callable[[AuthRequest], Awaitable[P | None]]"

_BEARER: Final = "bearer"
_REFUSED: Final = "UNAUTHORIZED"


def bearer_principal(principals: Mapping[str | Secrets, P], /, *, header: str = "authorization") -> Resolver[P]:
    """Return a resolver for machines: whoever sends one of these secrets is its principal.

    A request without the header, or with another scheme than Bearer, is nobody's (None), so that another resolver can
    be asked; a Bearer token that is none of the secrets is refused (UNAUTHORIZED).  Every secret is compared, in
    constant time.  In a `header` of its own a secret stands without a scheme.  Raises InvalidSecret for what is no
    secret, InvalidArgs for no principal.
    """
    held = [
        (key if isinstance(key, Secrets) else Secrets(key, what="a client's secret"), principal)
        for key, principal in principals.items()
    ]
    if not held or any(principal is None for _, principal in held):
        msg = "bearer_principal({secret: principal}) needs at least one secret, and a principal for each"
        raise InvalidArgs(msg)
    name = header.lower()

    async def resolve(request: AuthRequest) -> P | None:
        given = _sent(request.headers, name)
        if name == "authorization" and given is not None:
            scheme, _, token = given.partition(" ")
            given = token.strip() if scheme.lower() == _BEARER else None
        if given is None:
            return None
        found = [principal for secrets, principal in held if secrets.match(given) is not None]
        if not found:
            raise FunctionError(_REFUSED, "the token is not one that this app knows")
        return found[0]

    return resolve


def by_source(
    *,
    rpc: Callable[[AuthRequest], Awaitable[Any]] | None = None,
    scheduled: Callable[[AuthRequest], Awaitable[Any]] | None = None,
    other: Callable[[AuthRequest], Awaitable[Any]] | None = None,
) -> Resolver[Any]:
    """Return a resolver that asks another one for each source of calls; where there is none, nobody calls (None).

    `rpc` is asked for clients' requests, `scheduled` for runs of jobs and crons (`request.invoker` says of which),
    `other` for whatever else the app asks about.
    """
    asked = {"rpc": rpc, "scheduled": scheduled, "other": other}

    async def resolve(request: AuthRequest) -> Any:
        resolver = asked[request.source]
        return None if resolver is None else await resolver(request)

    return resolve


def first_of(*resolvers: Callable[[AuthRequest], Awaitable[P | None]]) -> Resolver[P]:
    """Return a resolver that asks these in turn, and takes the first answer that is not None."""

    async def resolve(request: AuthRequest) -> P | None:
        for resolver in resolvers:
            principal = await resolver(request)
            if principal is not None:
                return principal
        return None

    return resolve


def always(principal: P, /) -> Resolver[P]:
    """Return a resolver that knows one answer: `by_source(scheduled=always(System()))`."""

    async def resolve(_request: AuthRequest) -> P | None:
        return principal

    return resolve


def _sent(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)
