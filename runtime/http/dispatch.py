"""Outside clocks: `POST /schedules/{name}/dispatch` lets a cron with clock="external" tick, once per nominal time.

Whoever has the dispatch secret may tell the time, and nothing else: which function runs, with which arguments, and whom
it acts as is the app's.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from actor_scheduler.errors import InvalidCron, UnknownCron
from actor_scheduler.limits import EPOCH_SECONDS_MAX, PAGE_MAX
from runtime.http.answers import Problem, answer
from runtime.http.documents import schedule
from runtime.http.plain import moment
from runtime.http.routes import Route

if TYPE_CHECKING:
    from starlette.responses import Response

    from runtime.http.routes import Visit

_TICKS: Final = 3
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Nominal = StrictStr | StrictInt | StrictFloat | None


class Nominal(BaseModel):
    """For which time a clock dispatches: ISO 8601 with an offset, or epoch milliseconds; now unless given."""

    model_config = ConfigDict(extra="forbid")

    nominal_fire_time: _Nominal = None
    nominal_camel: _Nominal = Field(default=None, alias="nominalFireTime")


class WhichSchedules(BaseModel):
    """Which schedules are listed."""

    model_config = ConfigDict(extra="forbid")

    prefix: str = ""
    limit: int = Field(default=100, ge=1, le=PAGE_MAX)
    cursor: str | None = None


async def dispatch(visit: Visit) -> Response:
    """Let a schedule tick. Answers once its run is durable; the same tick again is a duplicate, for ever."""
    given: Nominal | None = visit.body
    nominal = None if given is None else _nominal(given)
    name: str = visit.request.path_params["name"]
    crons = visit.served.crons
    info = await crons.get(name) if _is_name(name) else None
    if info is None or (info.spec is not None and not info.enabled):
        raise _not_found()
    if info.clock == "internal":
        message = 'this schedule goes by the app\'s own clock; clock="external" is for those that are dispatched'
        raise Problem(409, "SCHEDULE_NOT_EXTERNAL", message)
    try:
        done = await crons.dispatch(name, nominal=nominal)
    except UnknownCron:
        raise _not_found() from None
    except InvalidCron as error:
        raise Problem(409, "SCHEDULE_NOT_EXTERNAL", str(error)) from error
    told: dict[str, Any] = {"status": done.status, "schedule": name, "tick": moment(done.tick)}
    told.update({"reason": done.reason} if done.status == "skipped" else {"job_id": done.job_id})
    if done.reason == "before_definition":
        told["next_tick"] = next((moment(tick) for tick in await crons.next_ticks(name, 1)), None)
    return answer(told, 202 if done.status == "accepted" else 200)


def _is_name(name: str) -> bool:
    return 1 <= len(name) <= 128 and name.isascii() and name.isprintable()


def _not_found() -> Problem:
    return Problem(404, "SCHEDULE_NOT_FOUND", "there is no such schedule, or it is disabled")


def _nominal(given: Nominal) -> datetime | None:
    """Return the nominal time, None when none was given. Raises Problem (400)."""
    ours, camel = _instant(given.nominal_fire_time), _instant(given.nominal_camel)
    if ours is not None and camel is not None and ours != camel:
        raise Problem(400, "INVALID_BODY", "nominal_fire_time and nominalFireTime are two different times")
    return ours if ours is not None else camel


def _instant(given: str | float | None) -> datetime | None:
    try:
        if given is None:
            return None
        if isinstance(given, str):
            when = datetime.fromisoformat(given)
            if when.utcoffset() is None:
                raise _invalid("it has no offset: 2026-11-21T14:00:00Z is a time, without the Z it is none")
            return when.astimezone(UTC)
        if not 0 <= given < 1000 * EPOCH_SECONDS_MAX:
            raise _invalid("the number is no time of this age: epoch milliseconds are meant")
        if 0 < given < EPOCH_SECONDS_MAX:
            raise _invalid("the number can only be seconds: epoch milliseconds are meant, so multiply it by 1000")
        return _EPOCH + timedelta(milliseconds=given)
    except (ValueError, OverflowError):
        raise _invalid("ISO 8601 with an offset, or epoch milliseconds") from None


def _invalid(why: str) -> Problem:
    return Problem(400, "INVALID_BODY", f"a nominal time can't be taken: {why}")


async def show(visit: Visit) -> Response:
    """Answer with the schedules that wait for an outside clock, by name, and with their next ticks.

    A page looks at `limit` crons of either clock, so it may be short, or empty, though there is another.
    """
    which: WhichSchedules = visit.query
    crons = visit.served.crons
    page = await crons.page(which.prefix, cursor=which.cursor, limit=which.limit)
    items: list[dict[str, Any]] = []
    for info in page.items:
        if info.clock != "external" or not info.enabled:
            continue
        try:
            ticks = await crons.next_ticks(info.name, _TICKS)
        except (UnknownCron, InvalidCron):  # deleted since, or damaged
            continue
        items.append(
            {
                "name": info.name,
                "schedule": schedule(info.schedule),
                "description": info.description,
                "paused": info.paused,
                "next_ticks": [moment(tick) for tick in ticks],
            }
        )
    return answer({"items": items, "next_cursor": page.next_cursor})


_ANSWERS: Final = {
    202: "the tick runs, as job_id",
    200: "it was dispatched before (duplicate), or does not run (skipped, with the reason)",
    404: "there is no such schedule, or it is disabled",
    409: "the schedule goes by the app's own clock",
    504: "it took longer than it may",
}

ROUTES: Final = (
    Route(
        method="POST",
        path="/schedules/{name:path}/dispatch",
        door="dispatch",
        handler=dispatch,
        summary="Let a schedule tick, for a nominal time",
        body=Nominal,
        answers=_ANSWERS,
    ),
    Route(
        method="GET",
        path="/schedules/{name:path}/dispatch",
        door="dispatch",
        handler=dispatch,
        summary="Let a schedule tick now, for clocks that can only GET",
        answers=_ANSWERS,
    ),
    Route(
        method="GET",
        path="/schedules",
        door="dispatch",
        handler=show,
        summary="The schedules that wait for an outside clock",
        query=WhichSchedules,
        answers={200: "names, rules and the next ticks of each"},
    ),
)
