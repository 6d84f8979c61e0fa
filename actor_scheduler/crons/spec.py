"""What a cron is: a checked definition, as it is kept in the store."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

from actor_scheduler import codec
from actor_scheduler.crons.catchup import CatchUp, MissedTicks, Overlap
from actor_scheduler.crons.fields import fields_of
from actor_scheduler.crons.schedule import Cron, Schedule, schedule_from_plain
from actor_scheduler.errors import InvalidArgs, InvalidCron
from actor_scheduler.limits import CATCH_UP_TICKS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actor_scheduler.model import Kind

CronClock: TypeAlias = Literal["internal", "external"]
Origin: TypeAlias = Literal["manifest", "runtime"]

_LAST_US: Final = 253_402_300_799_999_999  # of the year 9999
_FORMAT: Final = b"\x01"
_SHARED_MAX: Final = 4_096  # definitions kept ready, ~2 KiB each


class CronSpec(NamedTuple):
    """One cron as it was defined: a name, a schedule, a target with its arguments, and the rules of its ticks."""

    name: str
    schedule: Schedule
    path: str
    kind: Kind
    args: bytes
    rule: CatchUp = CatchUp()
    jitter_us: int = 0
    clock: CronClock = "internal"
    enabled: bool = True
    description: str = ""

    def encode(self) -> bytes:
        """Return the definition as bytes; equal definitions give equal bytes."""
        rule = self.rule
        shared = codec.encode({
            "schedule": self.schedule.to_plain(), "path": self.path, "kind": self.kind, "missed": rule.missed,
            "max_ticks": rule.max_ticks, "max_age_us": rule.max_age_us, "overlap": rule.overlap,
            "jitter_us": self.jitter_us, "clock": self.clock, "enabled": self.enabled,
            "description": self.description,
        })  # fmt: skip
        return _FORMAT + len(shared).to_bytes(4, "big") + shared + self.args

    @classmethod
    def decode(cls, name: str, data: bytes) -> CronSpec:
        """Return a definition that was kept. Raises InvalidCron for one that no release wrote, or an unknown zone."""
        if data[:1] != _FORMAT:
            msg = f"cron {name!r} is kept in format {data[:1].hex() or 'none'}: written by a newer release, or damaged"
            raise InvalidCron(msg)
        end = 5 + int.from_bytes(data[1:5], "big")
        try:
            return _shared(data[5:end])._replace(name=name, args=data[end:])
        except InvalidCron as error:
            msg = f"cron {name!r}: {error}"
            raise type(error)(msg) from error
        except (KeyError, TypeError, InvalidArgs) as error:
            msg = f"cron {name!r}: what is stored of it is damaged"
            raise InvalidCron(msg) from error

    def same_schedule(self, other: CronSpec) -> bool:
        """Whether both schedules mean the same, however they are spelled."""
        mine, theirs = self.schedule, other.schedule
        if isinstance(mine, Cron) and isinstance(theirs, Cron):
            return mine.tz == theirs.tz and fields_of(mine.expr) == fields_of(theirs.expr)
        return mine == theirs

    def same_runs(self, other: CronSpec) -> bool:
        """Whether an occurrence of one is what the other would run."""
        mine = (self.path, self.kind, self.args)
        return self.same_ticks(other) and mine == (other.path, other.kind, other.args)

    def same_ticks(self, other: CronSpec) -> bool:
        """Whether both have the same ticks, by the same clock: what is accounted for of one is so of the other."""
        return self.same_schedule(other) and (self.clock, self.enabled) == (other.clock, other.enabled)


@lru_cache(_SHARED_MAX)
def _shared(data: bytes) -> CronSpec:
    """Return a definition without its name and arguments: the crons of many users are one in all the rest."""
    plain: Any = codec.decode(data)
    rule = CatchUp(plain["missed"], plain["max_ticks"], plain["max_age_us"], plain["overlap"])
    spec = CronSpec(
        "", schedule_from_plain(plain["schedule"]), plain["path"], plain["kind"], b"", rule, plain["jitter_us"],
        plain["clock"], plain["enabled"], plain["description"],
    )  # fmt: skip
    if not _is_whole(spec):
        msg = "what is stored of it is damaged"
        raise InvalidCron(msg)
    return spec


def _is_whole(spec: CronSpec) -> bool:
    """Whether every field is of a kind and in a range that a checked definition can have."""
    missed, max_ticks, max_age_us, overlap = spec.rule
    return (
        missed in get_args(MissedTicks)
        and overlap in get_args(Overlap)
        and type(max_ticks) is int
        and 1 <= max_ticks <= CATCH_UP_TICKS_MAX
        and (max_age_us is None or (type(max_age_us) is int and max_age_us > 0))
        and type(spec.jitter_us) is int
        and spec.jitter_us >= 0
        and spec.kind in ("mutation", "action")
        and spec.clock in get_args(CronClock)
        and type(spec.enabled) is bool
        and isinstance(spec.path, str)
        and isinstance(spec.description, str)
    )


def digest(specs: Iterable[CronSpec]) -> str:
    """Return the content hash of a manifest: the same for the same definitions, in any order."""
    hashed = sha256()
    for spec in sorted(specs, key=lambda spec: spec.name):
        for part in (spec.name.encode(), spec.encode()):
            hashed.update(len(part).to_bytes(8, "big"))
            hashed.update(part)
    return hashed.hexdigest()


class RunNote(NamedTuple):
    """What a cron's run is told beside its tick: how many were dropped before it, and what is being replayed."""

    skipped: int = 0
    window: tuple[int, int] | None = None

    def encode(self) -> bytes | None:
        """Return the note as bytes; None when there is nothing to tell."""
        return codec.encode([self.skipped, *(self.window or ())]) if self.skipped or self.window else None

    @classmethod
    def decode(cls, data: bytes | None) -> RunNote:
        """Return a note that was kept; an empty one for what can't be read."""
        if data is None:
            return cls()
        try:
            skipped, *window = map(_moment, codec.decode(data))
            return cls(skipped, (window[0], window[1]) if window else None)
        except (TypeError, ValueError, IndexError):  # InvalidArgs is a ValueError
            return cls()


def _moment(number: object) -> int:
    if type(number) is not int or not 0 <= number <= _LAST_US:
        msg = "no moment of any calendar"
        raise InvalidArgs(msg)
    return number
