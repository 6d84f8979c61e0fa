"""The beat: one request from outside that lets everything run which is due, for hosts that sleep between requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from actor_scheduler.limits import SECOND_US
from actor_scheduler.times import to_datetime
from runtime.drain import drain
from runtime.http.answers import answer
from runtime.http.plain import moment
from runtime.http.routes import Route
from runtime.http.stopping import STOPPING

if TYPE_CHECKING:
    from starlette.responses import Response

    from runtime.http.routes import Visit

WAIT_SECONDS: Final = 25.0  # below the 30 s after which many a clock, and many a proxy, gives up
WAIT_SECONDS_MAX: Final = 900.0


class TickQuery(BaseModel):
    """How long a beat may take."""

    model_config = ConfigDict(extra="forbid")

    wait: float = Field(
        WAIT_SECONDS,
        ge=0,
        le=WAIT_SECONDS_MAX,
        allow_inf_nan=False,
        description="Seconds after which it answers, whatever is left; what runs then goes on.",
    )


async def tick(visit: Visit) -> Response:
    """Start the app if it has not run yet, let what is due run, and answer what happened and when to come again."""
    booted = await visit.served.ensure_started()
    drained = await drain(visit.served.engine(), round(visit.query.wait * SECOND_US), STOPPING.calls)
    next_at = to_datetime(drained.next_at_us) if drained.next_at_us is not None else None
    return answer(
        {
            "started": drained.started,
            "succeeded": drained.succeeded,
            "failed": drained.failed,
            "canceled": drained.canceled,
            "retrying": drained.retrying,
            "due_left": drained.due_left,
            "running": drained.running,
            "next_at": moment(next_at),
            "took_seconds": drained.took_us / SECOND_US,
            "booted": booted,
        }
    )


_SUMMARY: Final = "Let what is due run, and say what happened and when something is due next."
_ANSWERS: Final = {200: "what happened, and when to come again", 503: "the app was stopped, or its database fails"}

ROUTES: Final = (
    Route(
        method="POST", path="/tick", door="dispatch", handler=tick, summary=_SUMMARY, query=TickQuery, answers=_ANSWERS
    ),
    Route(
        method="GET", path="/tick", door="dispatch", handler=tick, summary=_SUMMARY, query=TickQuery, answers=_ANSWERS
    ),
)
