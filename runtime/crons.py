"""The app's own crons: what the code defines, and the handle of routes, scripts and operators."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

from typing_extensions import Unpack

from actor_scheduler import codec
from actor_scheduler.crons.definition import (
    CronJob,
    CronOptions,
    Faults,
    NeedsNothing,
    Target,
    check_faults,
    check_stored,
)
from actor_scheduler.crons.handle import Crons
from actor_scheduler.crons.records import CronDiff, Staged
from actor_scheduler.crons.schedule import Every, Schedule
from actor_scheduler.errors import AlreadyStarted, InvalidArgs, InvalidCron, NotRegistrable, UnknownFunction
from actor_scheduler.limits import PAGE_MAX
from actor_scheduler.ports import ActorPort
from actor_scheduler.store.cron_units import DispatchCron, StageCrons
from actor_scheduler.times import Instant, instant_us
from runtime.cron_definitions import (
    Definitions,
    cron_schedule,
    day_of_month,
    day_of_week,
    decorator_schedule,
    minute_of,
    time_of_day,
)
from runtime.functions import check_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import time
    from zoneinfo import ZoneInfo

    from actor_scheduler.crons.records import Dispatched, ManifestInfo
    from actor_scheduler.model import Args, Kind
    from actor_scheduler.ports import Running
    from runtime.engine import Engine
    from runtime.registry import Registry

log = logging.getLogger("actor_scheduler")

Activation: TypeAlias = Literal["automatic", "manual"]
F = TypeVar("F", bound=NeedsNothing)

_NAMES_LOGGED: Final = 20
_VERSION_MAX: Final = (1 << 63) - 1


class AppCrons(Crons):
    """The app's crons.

    `cron`, `interval`, `hourly`, `daily`, `weekly`, `monthly`, `define_crons` and `on` define them, before the app
    starts.  What is wrong with one is raised at once, all of it together: InvalidCron.  Targets and arguments are
    checked when the app starts, by when all functions are known.

    The definitions together are a manifest.  With `cron_activation="automatic"` it holds from the start on: crons that
    are new in it begin, unchanged ones keep their next tick, and those it does not have any more are gone.  With
    "manual" the manifest before goes on until `activate(version)`.
    """

    def __init__(
        self,
        running: Callable[[], Running],
        engine: Callable[[], Engine],
        check_defining: Callable[[str], None],
        activation: Activation,
    ) -> None:
        if activation not in ("automatic", "manual"):
            msg = f'cron_activation must be "automatic" or "manual", not {activation!r:.40}'
            raise InvalidArgs(msg)

        def check(path: str, args: Args, function: object) -> tuple[str, Kind, bytes]:
            return engine().check(path, args, function)

        port = ActorPort(running)
        super().__init__(port, check)
        self._app_port = port
        self._check_app_defining = check_defining
        self._activation = activation
        self._definitions = Definitions()
        self._staged: Staged | None = None

    # ------------------------------------------------------------ definitions

    def cron(
        self,
        name: str,
        expr: str,
        target: Target,
        args: Args | None = None,
        /,
        *,
        tz: str | ZoneInfo = "UTC",
        **options: Unpack[CronOptions],
    ) -> None:
        """Define a cron by five fields, `minute hour day-of-month month day-of-week`, in a zone.

        `target` is a path, a function that needs no arguments, or `fn.bind(…)`.  Raises InvalidCron, AlreadyStarted.
        """
        faults = Faults(name)
        self._define(name, cron_schedule(expr, tz, faults), target, args, options, faults)

    def interval(
        self,
        name: str,
        target: Target,
        args: Args | None = None,
        /,
        *,
        seconds: float | None = None,
        minutes: float | None = None,
        hours: float | None = None,
        **options: Unpack[CronOptions],
    ) -> None:
        """Define a cron by an interval: it runs when it first holds, then every so often, without drift.

        Exactly one of `seconds`, `minutes` and `hours`, at least a second in all.  Raises InvalidCron, AlreadyStarted.
        """
        faults = Faults(name)
        schedule = None
        with faults.of("interval"):
            schedule = Every(seconds=seconds, minutes=minutes, hours=hours)
        self._define(name, schedule, target, args, options, faults)

    def hourly(
        self,
        name: str,
        target: Target,
        args: Args | None = None,
        /,
        *,
        minute: int = 0,
        **options: Unpack[CronOptions],
    ) -> None:
        """Define a cron that ticks once an hour, at this minute of UTC. Raises InvalidCron, AlreadyStarted."""
        faults = Faults(name)
        schedule = cron_schedule(f"{minute_of(minute, faults)} * * * *", "UTC", faults)
        self._define(name, schedule, target, args, options, faults)

    def daily(
        self,
        name: str,
        target: Target,
        args: Args | None = None,
        /,
        *,
        at: time | str,
        tz: str | ZoneInfo = "UTC",
        **options: Unpack[CronOptions],
    ) -> None:
        """Define a cron that ticks every day at a time ("HH:MM") of a zone. Raises InvalidCron, AlreadyStarted."""
        faults = Faults(name)
        schedule = cron_schedule(f"{time_of_day(at, faults)} * * *", tz, faults)
        self._define(name, schedule, target, args, options, faults)

    def weekly(
        self,
        name: str,
        target: Target,
        args: Args | None = None,
        /,
        *,
        day: str,
        at: time | str,
        tz: str | ZoneInfo = "UTC",
        **options: Unpack[CronOptions],
    ) -> None:
        """Define a cron that ticks every week, on a day ("monday", "mon") at a time ("HH:MM") of a zone.

        Raises InvalidCron, AlreadyStarted.
        """
        faults = Faults(name)
        expr = f"{time_of_day(at, faults)} * * {day_of_week(day, faults)}"
        self._define(name, cron_schedule(expr, tz, faults), target, args, options, faults)

    def monthly(
        self,
        name: str,
        target: Target,
        args: Args | None = None,
        /,
        *,
        day: int,
        at: time | str,
        tz: str | ZoneInfo = "UTC",
        **options: Unpack[CronOptions],
    ) -> None:
        """Define a cron that ticks every month, on a day (1 to 31) at a time ("HH:MM") of a zone.

        A month that has no such day is left out; the last day of each is `cron(name, "0 9 L * *", …)`.  Raises
        InvalidCron, AlreadyStarted.
        """
        faults = Faults(name)
        expr = f"{time_of_day(at, faults)} {day_of_month(day, faults)} * *"
        self._define(name, cron_schedule(expr, tz, faults), target, args, options, faults)

    def define_crons(self, jobs: Iterable[CronJob], /) -> None:
        """Define many, all or none. Raises InvalidCron with what is wrong with any of them, AlreadyStarted."""
        self._check_defining()
        self._definitions.add_all(jobs)

    def on(
        self, schedule: Schedule | str, /, *, name: str | None = None, **options: Unpack[CronOptions]
    ) -> Callable[[F], F]:
        """Define a cron above its function: `@app.crons.on("0 3 * * *")`, then `@jobs.action`.

        The schedule is an expression (of UTC), a Cron or an Every; the name is the function's path unless given.  Both
        and the options are checked at once, the function when it comes.  Raises InvalidCron, AlreadyStarted.
        """
        self._check_defining()
        made = decorator_schedule(schedule, name, options)

        def define(function: F) -> F:
            called = name if name is not None else getattr(function, "path", None)
            if called is None:
                msg = f"@app.crons.on stands above @namespace.mutation or @namespace.action, not on {function!r:.80}"
                raise InvalidCron(msg)
            self._define(called, made, function, None, options, Faults(called))
            return function

        return define

    def _define(
        self,
        name: str,
        schedule: Schedule | None,
        target: Target,
        args: Args | None,
        options: CronOptions,
        faults: Faults,
    ) -> None:
        self._check_defining()
        self._definitions.add(CronJob(name, schedule, target, args, **options), faults)  # type: ignore[arg-type]

    def _check_defining(self) -> None:
        try:
            self._check_app_defining("a cron's definition")
        except AlreadyStarted as error:
            msg = f"{error}; at run time it is: await app.crons.register(…)"
            raise AlreadyStarted(msg) from None

    # ------------------------------------------------------------ the manifest

    def first_unit(self, registry: Registry) -> StageCrons:
        """Check the app's functions, and its crons against them; return what the store is to know first of all.

        Raises NotRegistrable or InvalidCron, with everything that is wrong with any of them.
        """
        wrong = ""
        try:
            registry.check()
        except NotRegistrable as error:
            wrong = str(error)
        try:
            specs = self._definitions.specs(registry.schedulable)
        except InvalidCron as error:
            if wrong:
                msg = f"{wrong}\n{error}"
                raise NotRegistrable(msg) from error
            raise
        if wrong:
            raise NotRegistrable(wrong)
        return StageCrons(specs, self._activation == "automatic")

    def started(self, staged: Staged, targets: Sequence[str], registry: Registry) -> None:
        """Hear what became of the definitions, and which functions crons run, and tell it to the log."""
        self._staged = staged
        if missing := [path for path in targets if not registry.has(path)]:
            log.error(
                "crons run functions that this process does not have, so their ticks will fail: %s", _listed(missing)
            )
        version, active, diff = staged
        if not active:
            before = bool(diff.updated or diff.unchanged or diff.deleted)
            log.warning(
                "crons: manifest %d is staged and waits for app.crons.activate(%d): %s%s", version, version,
                _told(diff), "; until then those of the manifest before go on" if before else "",
            )  # fmt: skip
        elif diff.changes:
            log.info("crons: manifest %d is active: %s", version, _told(diff))

    @property
    def staged(self) -> Staged | None:
        """What became of the definitions at the last start, or was activated since: version, whether it holds, diff.

        Of a version that waits, the diff is what its activation would have changed at that start.
        """
        return self._staged

    async def manifests(self, *, limit: int = 20) -> Sequence[ManifestInfo]:
        """Return the versions of the definitions that are on record, the newest first. Raises InvalidArgs."""
        if type(limit) is not int or not 1 <= limit <= PAGE_MAX:
            msg = f"limit must be from 1 to {PAGE_MAX}, not {limit!r:.40}"
            raise InvalidArgs(msg)
        return await self._app_port.manifests(limit)

    async def stage(self, jobs: Iterable[CronJob], /, *, kinds: Mapping[str, Kind] | None = None) -> Staged:
        """Keep a version of the definitions that waits to be activated, and return it. Durable when it returns.

        For a deploy that pushes its crons before its code: what this process defines goes on.  The same definitions
        are the same version, also when code that has them starts.  A target that this process does not have yet is of
        the kind that `kinds` says for its path, an action unless it does, with its arguments as they are; the code that
        brings it has the last word.  Raises InvalidCron with everything that is wrong, also when a name is that of a
        cron registered at run time.
        """
        told = kinds or {}

        def check(path: str, args: Args, function: object) -> tuple[str, Kind, bytes]:
            try:
                return self._check(path, args, function)
            except UnknownFunction:
                if function is not None or not _is_path(path):
                    raise
                return path, told.get(path, "action"), codec.encode(dict(args))

        definitions = Definitions()
        definitions.add_all(jobs)
        return await self._app_port.stage_crons(definitions.specs(check))

    async def compare(self, version: int, /) -> CronDiff:
        """Return how a version of the definitions differs from the one that holds: what its activation is to change.

        A cron in trouble counts as unchanged here, and is mended by an activation all the same.  Raises InvalidArgs
        when there is no such version, InvalidCron when it is damaged.
        """
        active = next((info for info in await self._app_port.manifests(PAGE_MAX) if info.state == "active"), None)
        there = {} if active is None else await self._definitions_of(active.version)
        wanted = await self._definitions_of(version)
        both = sorted(wanted.keys() & there.keys())
        return CronDiff(
            added=tuple(sorted(wanted.keys() - there.keys())),
            updated=tuple(name for name in both if wanted[name] != there[name]),
            unchanged=tuple(name for name in both if wanted[name] == there[name]),
            deleted=tuple(sorted(there.keys() - wanted.keys())),
        )

    async def _definitions_of(self, version: int) -> dict[str, bytes]:
        return {spec.name: spec.encode() for spec in await self._app_port.manifest_specs(version)}

    async def activate(self, version: int, /) -> CronDiff:
        """Let a version of the definitions hold, in one step, and return what that changed. Durable when it returns.

        Raises InvalidArgs when there is no such version; InvalidCron with every target that this process does not
        have, and every argument that does not fit it.
        """
        if type(version) is not int:
            msg = f"a manifest's version is a whole number, not {version!r:.40}"
            raise InvalidArgs(msg)
        if not 1 <= version <= _VERSION_MAX:
            msg = "there is no cron manifest of such a number: versions count from 1"
            raise InvalidArgs(msg)
        found: list[str] = []
        for spec in await self._app_port.manifest_specs(version):
            try:
                check_stored(spec, self._check)
            except InvalidArgs as error:
                found.append(str(error))
        check_faults(found)
        diff = await self._app_port.activate_crons(version)
        self._staged = Staged(version, active=True, diff=diff)
        log.info("crons: manifest %d is active: %s", version, _told(diff))
        return diff

    async def dispatch(self, name: str, /, *, nominal: Instant | None = None) -> Dispatched:
        """Let a cron with `clock="external"` tick: for an outside clock. Durable when it returns.

        `nominal` (now unless given) is snapped to the latest tick at or before it, so one tick runs once however often
        it is sent.  Raises UnknownCron; InvalidCron for a cron that fires by itself; InvalidTime.
        """
        if not isinstance(name, str):
            msg = f"a cron's name is a str, not {type(name).__name__}"
            raise InvalidArgs(msg)
        at_us = None if nominal is None else instant_us(nominal, self._port.now_us())
        answer: Dispatched = await self._change(DispatchCron(name, at_us))
        return answer


def _is_path(path: str) -> bool:
    """Return whether this can be the path of a function."""
    try:
        check_path(path)
    except NotRegistrable:
        return False
    return True


def _told(diff: CronDiff) -> str:
    parts = {"added": diff.added, "updated": diff.updated, "deleted": diff.deleted}
    return "; ".join(f"{what} {_listed(names)}" for what, names in parts.items() if names) or "no changes"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_LOGGED} more" if len(names) > _NAMES_LOGGED else ""
    return f"{len(names)}: {', '.join(names[:_NAMES_LOGGED])}{more}"
