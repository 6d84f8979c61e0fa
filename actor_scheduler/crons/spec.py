"""What a cron is: a checked definition, as it is kept in the store."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from actor_scheduler import codec
from actor_scheduler.crons.catchup import CatchUp
from actor_scheduler.crons.schedule import Schedule, schedule_from_plain
from actor_scheduler.errors import InvalidArgs, InvalidCron
from actor_scheduler.limits import ARGS_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actor_scheduler.model import Kind

CronClock: TypeAlias = Literal["internal", "external"]
Origin: TypeAlias = Literal["manifest", "runtime"]

_FORMAT: Final = 1
_BYTES_MAX: Final = ARGS_BYTES_MAX + 65_536  # arguments as large as a job's, and what else is said


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
        return codec.encode({
            "v": _FORMAT, "schedule": self.schedule.to_plain(), "path": self.path, "kind": self.kind,
            "args": self.args, "missed": rule.missed, "max_ticks": rule.max_ticks, "max_age_us": rule.max_age_us,
            "overlap": rule.overlap, "jitter_us": self.jitter_us, "clock": self.clock, "enabled": self.enabled,
            "description": self.description,
        }, bytes_max=_BYTES_MAX)  # fmt: skip

    @classmethod
    def decode(cls, name: str, data: bytes) -> CronSpec:
        """Return a definition that was kept. Raises InvalidCron for one that no release wrote, or an unknown zone."""
        try:
            plain: Any = codec.decode(data)
            if plain["v"] != _FORMAT:
                msg = f"cron {name!r} was written by another release (format {plain['v']!r:.20})"
                raise InvalidCron(msg)
            rule = CatchUp(plain["missed"], plain["max_ticks"], plain["max_age_us"], plain["overlap"])
            return cls(
                name, schedule_from_plain(plain["schedule"]), plain["path"], plain["kind"], plain["args"], rule,
                plain["jitter_us"], plain["clock"], plain["enabled"], plain["description"],
            )  # fmt: skip
        except InvalidCron:
            raise
        except (KeyError, TypeError, InvalidArgs) as error:
            msg = f"cron {name!r}: what is stored of it is damaged"
            raise InvalidCron(msg) from error

    def same_ticks(self, other: CronSpec) -> bool:
        """Whether both have the same ticks, by the same clock: what is accounted for of one is so of the other."""
        mine = (self.schedule, self.clock, self.enabled)
        return mine == (other.schedule, other.clock, other.enabled)


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
            skipped, *window = codec.decode(data)
            return cls(skipped, (window[0], window[1]) if window else None)
        except (InvalidArgs, TypeError, ValueError, IndexError):
            return cls()
