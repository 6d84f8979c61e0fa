"""Whether the process is alive, and whether the app takes and starts work: up or down, and nothing about why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runtime.http.answers import answer
from runtime.http.routes import Route

if TYPE_CHECKING:
    from starlette.responses import Response

    from runtime.http.routes import Visit


async def alive(visit: Visit) -> Response:
    """Answer: the event loop runs."""
    del visit
    return answer({"status": "alive"})


async def ready(visit: Visit) -> Response:
    """Answer whether the app accepts and dispatches work; the reason why not is for operators, in the stats."""
    if visit.served.unready_reason is None:
        return answer({"status": "ready"})
    return answer({"status": "not ready"}, 503)


ROUTES: Final = (
    Route(
        method="GET",
        path="/healthz",
        door="open",
        handler=alive,
        summary="Whether the process is alive.",
        answers={200: "alive"},
    ),
    Route(
        method="GET",
        path="/readyz",
        door="open",
        handler=ready,
        summary="Whether the app accepts and starts work.",
        answers={200: "ready", 503: "not ready"},
    ),
)
