"""Crons over HTTP, for operators: look at them and their runs, pause, resume and run them, stage and activate them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from actor_scheduler.crons.catchup import MissedTicks, Overlap
from actor_scheduler.crons.definition import NAME_CHARS_MAX, CronJob, Faults, check_faults
from actor_scheduler.crons.schedule import Cron, Every, Schedule
from actor_scheduler.crons.spec import CronClock
from actor_scheduler.errors import InvalidArgs, InvalidCron, UnknownCron
from actor_scheduler.model import State
from runtime.http import documents
from runtime.http.answers import answer
from runtime.http.asked import Body, Cursor, Limit, Moment, Named, Path, Query, Span, audited, instant_of_ms
from runtime.http.routes import Route

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.responses import Response

    from actor_scheduler.crons.records import CronInfo
    from runtime.crons import AppCrons
    from runtime.http.routes import Visit

MANIFEST_BYTES_MAX: Final = 8 << 20  # ~20,000 definitions
TICKS_MAX: Final = 1_000

Name = Annotated[str, Field(min_length=1, max_length=NAME_CHARS_MAX)]


class CronsAsked(Query):
    """A page of crons."""

    prefix: Annotated[str, Field(max_length=NAME_CHARS_MAX)] = ""
    limit: Limit = 100
    cursor: Cursor | None = None


class CronAsked(Query):
    """One cron."""

    name: Name


class PreviewAsked(CronAsked):
    """The next ticks of a cron."""

    n: Annotated[int, Field(ge=1, le=TICKS_MAX)] = 5


class RunsAsked(Query):
    """What became of ticks, of one cron or of all."""

    name: Name | None = None
    state: State | Literal["skipped"] | None = None
    limit: Limit = 100
    cursor: Cursor | None = None


class RunAsked(Named):
    """A run by hand."""

    scheduled_at: Moment | None = Field(default=None, description="ISO 8601 with Z or an offset, or epoch milliseconds")


class PauseAsked(Named):
    """A pause of one cron."""

    note: str = ""


class ManifestsAsked(Query):
    """The newest manifests."""

    limit: Limit = 20


class Definition(Body):
    """A cron: when (`cron` with `tz`, or `every_seconds`), what (`path`, `args`), and the rules of its ticks."""

    name: str
    path: Path
    kind: Literal["mutation", "action"] | None = Field(
        default=None, description="of a function that only the code to come has; an action unless it is said"
    )
    args: dict[str, Any] | None = None
    cron: str | None = Field(default=None, description="five fields: minute hour day-of-month month day-of-week")
    tz: str = "UTC"
    every_seconds: float | None = None
    missed_tick_policy: MissedTicks | None = None
    max_catch_up_ticks: int | None = None
    max_catch_up_age: Span | None = Field(default=None, description='"48h", or seconds; null for any age')
    clock: CronClock | None = None
    overlap: Overlap | None = None
    jitter: Span | None = Field(default=None, description='"30s", or seconds')
    enabled: bool | None = None
    description: str | None = None

    def job(self, found: list[str]) -> CronJob | None:
        """Return the definition; what is wrong with its schedule goes to `found`. All else is checked when staged."""
        faults = Faults(self.name)
        when = self._schedule(faults)
        found.extend(faults.found)
        if when is None:
            return None
        given: Any = {name: getattr(self, name) for name in _OPTIONS & self.model_fields_set}
        # Null is nothing said, but for an age: that has no bound then.
        given = {name: value for name, value in given.items() if value is not None or name == "max_catch_up_age"}
        return CronJob(self.name, when, self.path, self.args, **given)

    def _schedule(self, faults: Faults) -> Schedule | None:
        if (self.cron is None) == (self.every_seconds is None):
            faults.add("schedule", "give either cron, with tz, or every_seconds")
            return None
        with faults.of("schedule"):
            return Cron(self.cron, tz=self.tz) if self.cron is not None else Every(seconds=self.every_seconds)
        return None


_OPTIONS: Final = frozenset(Definition.model_fields) - {"name", "path", "kind", "args", "cron", "tz", "every_seconds"}


class StageAsked(Body):
    """A version of the definitions: all of them."""

    crons: list[Definition]


class ActivateAsked(Body):
    """Which version is to hold."""

    version: int


# ------------------------------------------------------------------ looking


async def list_crons(visit: Visit) -> Response:
    """Answer a page of crons, by name."""
    asked: CronsAsked = visit.query
    found = await visit.served.crons.page(asked.prefix, cursor=asked.cursor, limit=asked.limit)
    return answer(documents.page(found, lambda info: documents.cron(info, hidden=not visit.sees_arguments)))


async def get_cron(visit: Visit) -> Response:
    """Answer how a cron stands."""
    return answer(await _shown(visit, visit.query.name))


async def _shown(visit: Visit, name: str) -> documents.Document:
    return documents.cron(await _info(visit.served.crons, name), hidden=not visit.sees_arguments)


async def _info(crons: AppCrons, name: str) -> CronInfo:
    info = await crons.get(name)
    if info is None:
        msg = f"there is no cron called {name!r:.200}"
        raise UnknownCron(msg)
    return info


async def preview_cron(visit: Visit) -> Response:
    """Answer the next ticks of a cron."""
    asked: PreviewAsked = visit.query
    crons = visit.served.crons
    info = await _info(crons, asked.name)
    ticks = await crons.next_ticks(asked.name, asked.n)
    return answer(documents.preview(asked.name, info.schedule, ticks))


async def list_runs(visit: Visit) -> Response:
    """Answer what became of ticks, the newest first."""
    asked: RunsAsked = visit.query
    found = await visit.served.crons.runs_page(asked.name, state=asked.state, cursor=asked.cursor, limit=asked.limit)
    return answer(documents.page(found, documents.cron_run))


async def list_manifests(visit: Visit) -> Response:
    """Answer the versions of the definitions, the newest first."""
    found = await visit.served.crons.manifests(limit=visit.query.limit)
    told = []
    for info in found:
        diff = None
        if info.state == "staged":
            with contextlib.suppress(InvalidCron, InvalidArgs):  # damaged, or forgotten since
                diff = await visit.served.crons.compare(info.version)
        told.append(documents.manifest(info, diff))
    return answer(documents.items(told))


# ------------------------------------------------------------------ steering


async def run_cron(visit: Visit) -> Response:
    """Run a cron's target now, by hand."""
    asked: RunAsked = visit.body
    with audited(visit, "run cron", asked.name) as outcome:
        when = instant_of_ms(asked.scheduled_at, "scheduled_at") if asked.scheduled_at is not None else None
        job_id = await visit.served.crons.run_now(asked.name, scheduled_at=when)
        outcome.result = job_id
    return answer({"job_id": job_id}, 202)


async def pause_cron(visit: Visit) -> Response:
    """Let no tick of a cron run until it is resumed."""
    asked: PauseAsked = visit.body
    with audited(visit, "pause cron", asked.name):
        await visit.served.crons.pause(asked.name, note=asked.note)
    return answer(await _shown(visit, asked.name))


async def resume_cron(visit: Visit) -> Response:
    """Let a cron go on."""
    name: str = visit.body.name
    with audited(visit, "resume cron", name):
        await visit.served.crons.resume(name)
    return answer(await _shown(visit, name))


async def stage_manifest(visit: Visit) -> Response:
    """Put a version of the definitions on record, without letting it hold."""
    asked: StageAsked = visit.body
    with audited(visit, "stage crons", f"{len(asked.crons)} crons") as outcome:
        kinds = {each.path: each.kind for each in asked.crons if each.kind is not None}
        staged = await visit.served.crons.stage(_jobs(asked.crons), kinds=kinds)
        outcome.result = f"version {staged.version}"
    return answer({"version": staged.version, "active": staged.active, "diff": documents.diff(staged.diff)})


def _jobs(definitions: Sequence[Definition]) -> list[CronJob]:
    """Return the definitions. Raises InvalidCron with every schedule that is wrong."""
    found: list[str] = []
    jobs = [each.job(found) for each in definitions]
    check_faults(found)
    return [job for job in jobs if job is not None]


async def activate_manifest(visit: Visit) -> Response:
    """Let a version of the definitions hold, in one step."""
    version: int = visit.body.version
    with audited(visit, "activate crons", f"version {version}"):
        changes = await visit.served.crons.activate(version)
    return answer(documents.diff(changes))


_NO_CRON: Final = {404: "there is no such cron"}

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET", path="/admin/crons", door="read", handler=list_crons, query=CronsAsked,
        summary="List crons, by name", answers={200: "a page of crons"},
    ),
    Route(
        method="GET", path="/admin/cron", door="read", handler=get_cron, query=CronAsked, summary="Show a cron",
        answers={200: "how it stands", **_NO_CRON},
    ),
    Route(
        method="GET", path="/admin/cron/preview", door="read", handler=preview_cron, query=PreviewAsked,
        summary="Show the next ticks of a cron",
        answers={200: "its ticks, in UTC and on the clock of its zone", **_NO_CRON},
    ),
    Route(
        method="GET", path="/admin/cron/runs", door="read", handler=list_runs, query=RunsAsked,
        summary="List what became of ticks, the newest first", answers={200: "a page of runs and skips"},
    ),
    Route(
        method="POST", path="/admin/cron/run", door="operate", handler=run_cron, body=RunAsked,
        summary="Run a cron's target now, by hand", answers={202: "the job's id", **_NO_CRON},
    ),
    Route(
        method="POST", path="/admin/cron/pause", door="operate", handler=pause_cron, body=PauseAsked,
        summary="Pause a cron", answers={200: "how it stands", **_NO_CRON},
    ),
    Route(
        method="POST", path="/admin/cron/resume", door="operate", handler=resume_cron, body=Named,
        summary="Resume a cron", answers={200: "how it stands", **_NO_CRON},
    ),
    Route(
        method="GET", path="/admin/cron/manifests", door="read", handler=list_manifests, query=ManifestsAsked,
        summary="List the versions of the definitions, the newest first", answers={200: "the versions"},
    ),
    Route(
        method="POST", path="/admin/cron/manifests", door="operate", handler=stage_manifest, body=StageAsked,
        summary="Stage a version of the definitions", body_max=MANIFEST_BYTES_MAX,
        answers={200: "its version, and what its activation would change"},
    ),
    Route(
        method="POST", path="/admin/cron/manifests/activate", door="operate", handler=activate_manifest,
        body=ActivateAsked, summary="Let a staged version hold", answers={200: "what that changed"},
    ),
)  # fmt: skip
