"""Who caused a call: a tagged union on `source`, so that `if inv.source == "scheduler":` narrows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

from actor_scheduler.crons.spec import RunNote
from actor_scheduler.times import to_datetime

if TYPE_CHECKING:
    from datetime import datetime

Access: TypeAlias = Literal["public", "internal", "system"]


@dataclass(frozen=True, slots=True)
class LocalInvoker:
    """`app.call` from the app's own code (routes, scripts, tests): trusted, sees public and internal functions."""

    type: Literal["user"] = "user"
    source: Literal["local"] = "local"


@dataclass(frozen=True, slots=True)
class RpcInvoker:
    """A client from outside: sees public functions only."""

    type: Literal["user"] = "user"
    source: Literal["rpc"] = "rpc"


@dataclass(frozen=True, slots=True)
class FunctionInvoker:
    """Another function, through `ctx.run_…`; `path` is the caller's."""

    path: str
    type: Literal["function"] = "function"
    source: Literal["function"] = "function"


@dataclass(slots=True)  # not frozen: one is made for every due job, and that costs four times as much
class JobInvoker:
    """The scheduler, for a due job.

    `scheduled_at` is what was asked and stays the same over attempts; `occurrence_id` too: use it as an idempotency key
    towards the world outside.  `attempt` counts from 1.
    """

    job_id: str
    attempt: int
    scheduled_at_us: int
    dispatched_at_us: int
    occurrence_id: str
    type: Literal["system"] = "system"
    source: Literal["scheduler"] = "scheduler"

    @property
    def scheduled_at(self) -> datetime:
        """When the job was asked to run. Aware, UTC."""
        return to_datetime(self.scheduled_at_us)

    @property
    def dispatched_at(self) -> datetime:
        """When this attempt was dispatched. Aware, UTC."""
        return to_datetime(self.dispatched_at_us)


@dataclass(slots=True)
class CronInvoker:
    """A cron, for one of its ticks; or, with the source "admin", somebody who ran it by hand.

    `scheduled_at` is the tick, without the jitter, and stays the same over attempts; `occurrence_id` too.
    """

    job_id: str
    attempt: int
    scheduled_at_us: int
    dispatched_at_us: int
    occurrence_id: str
    cron: str
    source: Literal["cron", "admin"] = "cron"
    note: bytes | None = None
    type: Literal["system"] = "system"

    @property
    def scheduled_at(self) -> datetime:
        """When it should have run: the tick, or what somebody asked for. Aware, UTC."""
        return to_datetime(self.scheduled_at_us)

    @property
    def dispatched_at(self) -> datetime:
        """When this attempt was dispatched. Aware, UTC."""
        return to_datetime(self.dispatched_at_us)

    @property
    def catch_up_window(self) -> tuple[datetime, datetime] | None:
        """The oldest and the newest tick of the replay this run belongs to; None unless missed ticks are replayed.

        That is under `missed_tick_policy="all"` only.
        """
        window = RunNote.decode(self.note).window
        return None if window is None else (to_datetime(window[0]), to_datetime(window[1]))

    @property
    def skipped_ticks(self) -> int:
        """How many ticks were dropped since the run before: by policy, caps, overlap or a pause."""
        return RunNote.decode(self.note).skipped


@dataclass(frozen=True, slots=True)
class AdminInvoker:
    """An operator, by hand: sees every function. `operator` says who: the id of the key that was used.

    A cron's run by hand has the source "admin", too, and is a CronInvoker: `isinstance` or `match` tells them apart.
    """

    operator: str
    type: Literal["system"] = "system"
    source: Literal["admin"] = "admin"


Invoker: TypeAlias = LocalInvoker | RpcInvoker | FunctionInvoker | JobInvoker | CronInvoker | AdminInvoker


def may_call(invoker: Invoker, access: Access) -> bool:
    """Return whether this invoker may call a function with this access."""
    match invoker:
        case RpcInvoker():
            return access == "public"
        case LocalInvoker() | FunctionInvoker():
            return access in ("public", "internal")
        case JobInvoker() | CronInvoker() | AdminInvoker():
            return True
        case _:
            assert_never(invoker)
