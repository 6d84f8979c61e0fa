"""What may be said of a cron when it is defined. All of it is checked before anything is refused, field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypedDict, get_args

from typing_extensions import Unpack

from actor_scheduler import codec
from actor_scheduler.call import Call
from actor_scheduler.crons.catchup import MissedTicks, Overlap
from actor_scheduler.crons.duration import duration_us
from actor_scheduler.crons.schedule import Cron, Every, Schedule
from actor_scheduler.crons.spec import CronClock, CronSpec
from actor_scheduler.errors import InvalidArgs, InvalidCron, NotStarted, UnknownFunction, WrongKind, said, storable
from actor_scheduler.limits import CATCH_UP_TICKS_MAX, SECOND_US
from actor_scheduler.model import Args, Kind
from actor_scheduler.times import Delay, delay_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

NAME_CHARS_MAX: Final = 128
DESCRIPTION_CHARS_MAX: Final = 1_000
JITTER_US_MAX: Final = 86_400 * SECOND_US  # a day: one that is spread over more is another schedule

_A: Final = {"query": "a query", "mutation": "a mutation", "action": "an action"}
_RULE: Final = frozenset({"missed", "max_ticks", "max_age_us", "overlap"})  # what a spec keeps in its `rule`


class CronOptions(TypedDict, total=False):
    """How a cron's ticks become runs, beside when and what."""

    missed_tick_policy: MissedTicks
    """Of ticks missed while nobody ran: `latest` (default) runs the newest one, `all` runs each, `skip` none."""
    max_catch_up_ticks: int
    """1 to 1000, 100 unless given: `all` runs at most so many, the newest; with `queue` at most so many wait."""
    max_catch_up_age: timedelta | str | None
    """`all` runs none that is older: "48h" unless given; None for any age."""
    clock: Literal["internal", "external"]
    """`external`: it never fires by itself; an outside clock dispatches it (`app.crons.dispatch`)."""
    overlap: Overlap
    """A tick that is due while a run has not ended: `skip` it (default), `queue` it, or `allow` both to run."""
    jitter: Delay | str | None
    """A tick is held back by up to this, by a hash of name and tick, never past the next: timedelta, seconds, "30s"."""
    enabled: bool
    """False: it is known, and does not fire."""
    description: str
    """For people; at most 1000 characters."""


class NeedsNothing(Protocol):
    """A mutation or action that can be called without arguments."""

    def bind(self) -> Call[Any]:
        """Return a call without arguments."""
        ...


Target: TypeAlias = str | Call[Any] | NeedsNothing
Check: TypeAlias = Callable[[str, Args, object], tuple[str, Kind, bytes]]  # `scheduler.Targets.check`


class CronJob:
    """A cron as a value: name, schedule, target and its arguments, options. For `app.crons.define_crons([…])`.

    The schedule is a Cron, an Every, or an expression (of UTC); the target is a path, a function that needs no
    arguments, or `fn.bind(…)`.  All of it is checked when it is defined.
    """

    __slots__ = ("args", "name", "options", "schedule", "target")

    def __init__(
        self,
        name: str,
        schedule: Schedule | str,
        target: Target,
        args: Args | None = None,
        /,
        **options: Unpack[CronOptions],
    ) -> None:
        self.name = name
        self.schedule = schedule
        self.target = target
        self.args = args
        self.options = options

    def __repr__(self) -> str:
        """Show name, schedule and target."""
        return f"CronJob({self.name!r}, {self.schedule!r}, {self.target!r})"


class Faults:
    """What is wrong with one cron, gathered field by field, so that all of it is told at once."""

    def __init__(self, name: object) -> None:
        self.found: list[str] = []
        self._name = name

    @contextmanager
    def of(self, field: str) -> Iterator[None]:
        """Gather what is wrong with one field; what follows in the block is left out then."""
        try:
            yield
        except InvalidArgs as error:
            self.add(field, str(error))

    def add(self, field: str, reason: str) -> None:
        """Gather one fault."""
        self.found.append(f"cron {self._name!r:.200}: {field}: {reason}")


def check_faults(found: Iterable[str]) -> None:
    """Raise InvalidCron with every fault, one a line, if there is any."""
    if lines := list(found):
        raise InvalidCron("\n".join(lines))


class Definition(NamedTuple):
    """A cron whose own words fit together. Whether its target can be scheduled is another question."""

    name: str
    schedule: Schedule
    call: Call[Any]
    chosen: Mapping[str, Any]  # by the names in CronSpec and CatchUp; the others have their defaults

    def spec(self, check: Check) -> CronSpec:
        """Return what is kept of it, once its target and arguments fit. Raises InvalidCron."""
        call = self.call
        path, kind, args = _check_target(self.name, call.path, call.args, call.function, check)
        return _choose(CronSpec(self.name, self.schedule, path, kind, args), self.chosen)


class Revision(NamedTuple):
    """What is to be different of a cron; the rest stays."""

    schedule: Schedule | None
    target: str | Call[Any] | None  # a path alone keeps the arguments
    chosen: Mapping[str, Any]

    def of(self, spec: CronSpec, check: Check) -> CronSpec:
        """Return the changed definition, once all of it fits together. Raises InvalidCron."""
        if self.schedule is not None:
            spec = spec._replace(schedule=self.schedule)
        match self.target:
            case Call(path=path, args=args, function=function):
                spec = _retarget(spec, path, args, function, check)
            case str(path):
                spec = _retarget(spec, path, codec.decode(spec.args), None, check)
        spec = _choose(spec, self.chosen)
        faults = Faults(spec.name)
        _check_together(faults, spec.jitter_us, spec.clock)
        check_faults(faults.found)
        return spec


def _retarget(spec: CronSpec, path: str, args: Args, function: object, check: Check) -> CronSpec:
    path, kind, stored = _check_target(spec.name, path, args, function, check)
    return spec._replace(path=path, kind=kind, args=stored)


def _choose(spec: CronSpec, chosen: Mapping[str, Any]) -> CronSpec:
    rule = {name: value for name, value in chosen.items() if name in _RULE}
    plain = {name: value for name, value in chosen.items() if name not in _RULE}
    return spec._replace(rule=spec.rule._replace(**rule), **plain)


def _check_target(name: str, path: str, args: Args, function: object, check: Check) -> tuple[str, Kind, bytes]:
    faults = Faults(name)
    try:
        return check(path, args, function)
    except NotStarted:
        raise
    except (UnknownFunction, WrongKind) as error:
        faults.add("target", str(error))
        raise InvalidCron(*faults.found) from error
    except Exception as error:  # whatever a validator of the app raises
        faults.add("args", said(error))
        raise InvalidCron(*faults.found) from error


def check_stored(spec: CronSpec, check: Check) -> None:
    """Raise InvalidCron unless the target of a stored definition is here, of its kind, and takes its arguments."""
    args: Any = codec.decode(spec.args)
    _, kind, _ = _check_target(spec.name, spec.path, args, None, check)
    if kind != spec.kind:
        faults = Faults(spec.name)
        faults.add("target", f"{spec.path} was {_A[spec.kind]} and is {_A[kind]} now")
        check_faults(faults.found)


# ------------------------------------------------------------------ the check of everything that is said


def examine(job: CronJob, faults: Faults) -> Definition | None:
    """Return a job's definition, or None when `faults` has anything, from before or from here.

    Its schedule is not looked at where `faults` says already why there is none.
    """
    has_schedule = not faults.found
    schedule = None
    with faults.of("name"):
        check_name(job.name)
    if has_schedule:
        with faults.of("schedule"):
            schedule = schedule_of(job.schedule)
    call = None
    with faults.of("target"):
        call = _call(job.target)
    with faults.of("args"):
        call = _with_args(call, job.target, job.args)
    chosen = check_options(job.options, faults)
    _check_together(faults, chosen.get("jitter_us", 0), chosen.get("clock", "internal"))
    if faults.found:
        return None
    assert schedule is not None
    assert call is not None
    return Definition(job.name, schedule, call, chosen)


def define(job: CronJob) -> Definition:
    """Return a job's definition. Raises InvalidCron with everything that is wrong with it."""
    faults = Faults(job.name)
    definition = examine(job, faults)
    check_faults(faults.found)
    assert definition is not None
    return definition


def revise(
    name: str, schedule: Schedule | str | None, target: Target | None, options: CronOptions, faults: Faults
) -> Revision | None:
    """Return what is to be different of a cron, or None when `faults` has anything then."""
    with faults.of("name"):
        check_name(name)
    made = None
    if schedule is not None:
        with faults.of("schedule"):
            made = schedule_of(schedule)
    wanted: str | Call[Any] | None = None
    if target is not None:
        with faults.of("target"):
            call = _call(target)
            wanted = target if isinstance(target, str) else call
    chosen = check_options(options, faults)
    if not (options or schedule is not None or target is not None):
        faults.add("update", "nothing is to be different; give schedule=, target= or an option")
    return None if faults.found else Revision(made, wanted, chosen)


def check_name(name: object) -> None:
    """Raise InvalidCron unless a name is 1 to 128 printable ASCII characters, without a space at either end."""
    if not (
        isinstance(name, str)
        and 0 < len(name) <= NAME_CHARS_MAX
        and name.isascii()
        and name.isprintable()
        and name == name.strip()
    ):
        msg = (
            f"a cron's name is a str of 1 to {NAME_CHARS_MAX} printable ASCII characters,"
            f" with no space at either end, not {name!r:.80}"
        )
        raise InvalidCron(msg)


def schedule_of(schedule: object) -> Schedule:
    """Return a schedule; an expression alone is one of UTC. Raises InvalidCron for what is neither."""
    if isinstance(schedule, str):
        return Cron(schedule)
    if not isinstance(schedule, Cron | Every):
        msg = f"a schedule is '0 9 * * *' (in UTC), Cron('0 9 * * *', tz=…) or Every(minutes=5), not {schedule!r:.80}"
        raise InvalidCron(msg)
    return schedule


def _call(target: object) -> Call[Any]:
    if isinstance(target, Call):
        if target.due is not None or target.options:
            msg = f"{target!r} has a moment or options of its own; a cron says when, and its function how"
            raise InvalidCron(msg)
        return target
    if isinstance(target, str):
        return Call(target)
    bind = getattr(target, "bind", None)
    call = bind() if callable(bind) and isinstance(getattr(target, "path", None), str) else None
    if not isinstance(call, Call):
        msg = f"a cron runs a mutation or an action: give its path, itself, or fn.bind(…), not {target!r:.80}"
        raise InvalidCron(msg)
    return call


def _with_args(call: Call[Any] | None, target: object, args: object) -> Call[Any] | None:
    if args is None:
        return call
    if not isinstance(args, Mapping):
        msg = f"arguments are a mapping of names to values, not {type(args).__name__}"
        raise InvalidCron(msg)
    if isinstance(target, Call):
        msg = "the call has its arguments already; give them once"
        raise InvalidCron(msg)
    return None if call is None else Call(call.path, args, function=call.function)


def check_options(options: CronOptions, faults: Faults) -> dict[str, Any]:
    """Return what the options choose, by the names in CronSpec and CatchUp; what is wrong goes to `faults`."""
    chosen: dict[str, Any] = {}
    for option, value in options.items():
        if option not in _OPTIONS:
            faults.add(option, f"there is no such option; there are {', '.join(_OPTIONS)}")
            continue
        name, read = _OPTIONS[option]
        with faults.of(option):
            chosen[name] = read(value)
    return chosen


def _check_together(faults: Faults, jitter_us: int, clock: CronClock) -> None:
    if jitter_us and clock == "external":
        faults.add("jitter", "an outside clock decides when it fires, so nothing can hold it back")


def _one_of(known: tuple[str, ...]) -> Callable[[object], object]:
    def read(value: object) -> object:
        if not (isinstance(value, str) and value in known):
            msg = f"must be one of {', '.join(map(repr, known))}, not {value!r:.40}"
            raise InvalidCron(msg)
        return value

    return read


def _max_ticks(value: object) -> object:
    if type(value) is not int or not 1 <= value <= CATCH_UP_TICKS_MAX:
        msg = f"a whole number from 1 to {CATCH_UP_TICKS_MAX}, not {value!r:.40}"
        raise InvalidCron(msg)
    return value


def _max_age_us(value: Any) -> object:
    return None if value is None else duration_us(value)


def _jitter_us(value: Any) -> object:
    if value is None:
        return 0
    span_us = duration_us(value) if isinstance(value, str) else delay_us(value, what="jitter")
    if span_us > JITTER_US_MAX:
        msg = f"at most a day, not {value!r:.40}"
        raise InvalidCron(msg)
    return span_us


def _enabled(value: object) -> object:
    if not isinstance(value, bool):
        msg = f"True or False, not {value!r:.40}"
        raise InvalidCron(msg)
    return value


def _description(value: object) -> object:
    if not (isinstance(value, str) and len(value) <= DESCRIPTION_CHARS_MAX and storable(value) == value):
        msg = f"a str of at most {DESCRIPTION_CHARS_MAX} characters, not {value!r:.80}"
        raise InvalidCron(msg)
    return value


_OPTIONS: Final[dict[str, tuple[str, Callable[[Any], object]]]] = {
    "missed_tick_policy": ("missed", _one_of(get_args(MissedTicks))),
    "max_catch_up_ticks": ("max_ticks", _max_ticks),
    "max_catch_up_age": ("max_age_us", _max_age_us),
    "clock": ("clock", _one_of(get_args(CronClock))),
    "overlap": ("overlap", _one_of(get_args(Overlap))),
    "jitter": ("jitter_us", _jitter_us),
    "enabled": ("enabled", _enabled),
    "description": ("description", _description),
}
