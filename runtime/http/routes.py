"""One route of the surface: where it is, who may pass, what it takes; and what its handler gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pydantic import BaseModel
    from starlette.requests import Request
    from starlette.responses import Response

    from runtime.http.audit import Audit
    from runtime.http.guard import Guard
    from runtime.http.options import Http
    from runtime.http.served import Served
    from runtime.http.who import Door, Who


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One route. Everything the surface needs to know of it stands here, so that nothing is open by oversight.

    `query` and `body` are pydantic models that refuse what they do not know; a route without `body` takes an empty
    one.  `answers` are the statuses its callers may meet besides those of every route of its door.
    """

    method: Literal["GET", "POST"]
    path: str  # as Starlette writes it, without the prefix
    door: Door
    handler: Callable[[Visit], Awaitable[Response]]
    summary: str
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    answers: Mapping[int, str] = field(default_factory=lambda: {200: "done"})
    body_max: int | None = None  # bytes, instead of Http.body_max


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request that has passed its door, with what it brought, checked."""

    request: Request
    request_id: str
    served: Served
    http: Http
    guard: Guard
    who: Who | None
    query: Any = None
    body: Any = None
    trail: Audit

    def audit(self, action: str, target: str, result: str) -> None:
        """Put on record who did what, to what, and what came of it."""
        self.trail.note(self.who, action, target, result, self.request_id)

    def still_valid(self) -> bool:
        """Return whether who came in would be let in again: its secret is active, its session has not ended."""
        return self.who is None or self.guard.still_valid(self.who)

    @property
    def sees_arguments(self) -> bool:
        """Whether this caller may see what jobs were called with, and what they returned."""
        return self.http.read_sees_arguments or (self.who is not None and self.who.role == "operate")
