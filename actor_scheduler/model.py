"""The values the scheduler works with: what a job is, what an attempt gave, what a caller asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypedDict

from typing_extensions import TypeVar

if TYPE_CHECKING:
    from datetime import datetime

    from actor_scheduler.retry import Retry
    from actor_scheduler.times import Delay

Kind: TypeAlias = Literal["query", "mutation", "action"]
State: TypeAlias = Literal["pending", "in_progress", "success", "failed", "canceled"]
Cause: TypeAlias = Literal[
    "error",
    "timeout",
    "interrupted",
    "invalid_args",
    "unknown_function",
    "crash_loop",
    "stale_manifest",
    "paused",
    "disabled",
]
OnConflict: TypeAlias = Literal["keep", "replace", "error"]
Args: TypeAlias = Mapping[str, Any]

TERMINAL: Final[frozenset[State]] = frozenset({"success", "failed", "canceled"})

# The default dispatch queues. Mutations and actions wait apart, so that a queue of actions that has no free slot
# never hides a due mutation; both are merged in (fire_at, seq) order when due.
MUTATIONS: Final = "mutation"
ACTIONS: Final = "action"
CRONS: Final = "cron"  # the queue of the crons themselves: what is due in it is a tick

R_co = TypeVar("R_co", covariant=True, default=Any)
T = TypeVar("T")


class JobOptions(TypedDict, total=False):
    """How a job is scheduled, beside what and when."""

    key: str
    """At most one unfinished job has this key; free again once it ended."""
    on_conflict: OnConflict
    """What a second job under the same unfinished `key` does: `keep` (default) the first, `replace` it, or `error`."""
    idempotency_key: str
    """A resend with the same key, in any state, is the same job; with other arguments it is a KeyConflict."""
    lane: str
    """Jobs of one lane run one at a time, in order of fire time, then acceptance; one that is retried holds it."""
    priority: int
    """-100 to 100, 0 unless given: among due jobs the higher goes first, but one pick in eight is the oldest's."""
    timeout: Delay
    """How long one attempt may take (a mutation: its SQL), instead of the function's own `timeout`."""
    retry: Retry | int
    """How often it is tried, instead of the function's own `retry`."""


class Entry(NamedTuple):
    """One pending job in the index, ordered by fire time, then by order of acceptance."""

    fire_at_us: int
    seq: int


class NewJob(NamedTuple):
    """A checked request for one job; nothing about it can fail any more but the store."""

    path: str
    kind: Kind
    queue: str  # the dispatch queue it waits in
    args: bytes
    scheduled_at_us: int  # what was asked
    fire_at_us: int  # when it may start: never before it was accepted
    created_at_us: int
    key: str | None = None
    on_conflict: OnConflict = "keep"
    idempotency_key: str | None = None
    parent_id: str | None = None
    lane: str | None = None
    priority: int = 0
    timeout_us: int | None = None
    retry: bytes | None = None
    chain: int = 0  # jobs in a row before it that were each scheduled for now by the one before
    cron: str | None = None  # whose run it is
    tick_us: int | None = None  # which tick of it; None for a run by hand
    cron_run: bytes | None = None  # what else its invoker tells of the tick, encoded


class DueJob(NamedTuple):
    """What an attempt needs to know of its job; read when claimed, not before."""

    seq: int
    id: str
    path: str
    kind: Kind
    args: bytes
    attempt: int  # 1-based: this attempt
    scheduled_at_us: int
    dispatched_at_us: int
    occurrence_id: str
    timeout_us: int | None = None  # its own, not its function's
    retry: bytes | None = None  # its own, not its function's
    chain: int = 0
    cron: str | None = None  # whose run it is
    tick_us: int | None = None  # which tick of it; None for a run by hand
    cron_run: bytes | None = None  # what else its invoker tells of the tick, encoded


class Succeeded(NamedTuple):
    """The function returned."""

    result: bytes | None = None
    truncated: bool = False


class Failed(NamedTuple):
    """The function, or the way to it, failed."""

    cause: Cause
    error: str  # one line
    code: str | None = None  # of a FunctionError
    data: bytes | None = None  # of a FunctionError, encoded
    traceback: str | None = None


class Again(NamedTuple):
    """The attempt failed, and another follows after a pause."""

    failure: Failed
    delay_us: int


class Stopped(NamedTuple):
    """The attempt ended canceled: stopped on demand, or failed when no other attempt was wanted any more."""

    failure: Failed | None = None


Outcome: TypeAlias = Succeeded | Failed | Again | Stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One stored request to run a function, as it stood when it was read.

    `scheduled_at` is what was asked and is never rewritten; `fire_at` is when the next attempt may start, or when the
    last one might.  `attempt` counts starts: 0 until the first.
    `occurrence_id` stays the same over all attempts: an idempotency key for the world outside.
    `result` is what the function returned, or, with `result_truncated`, the first characters of its repr.
    `error` is one line, of the last attempt that failed; a FunctionError also leaves `error_code` and `error_data`.
    `args_error` says why the stored arguments can't be shown; `args` is then empty.
    `cron` is the name of the cron whose run it is.
    """

    id: str
    path: str
    kind: Kind
    state: State
    args: Mapping[str, Any]
    args_error: str | None = None
    key: str | None = None
    idempotency_key: str | None = None
    attempt: int = 0
    scheduled_at: datetime
    fire_at: datetime
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    cause: Cause | None = None
    error: str | None = None
    error_code: str | None = None
    error_data: Any = None
    traceback: str | None = field(default=None, repr=False)
    result: Any = None
    result_truncated: bool = False
    occurrence_id: str
    parent_id: str | None = None
    lane: str | None = None
    priority: int = 0
    cron: str | None = None


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that was followed by another: which one, how long it took, and why it failed."""

    attempt: int
    started_at: datetime
    ended_at: datetime
    cause: Cause | None
    error: str | None


class Mark(NamedTuple):
    """A moment between two jobs: the number of the newest there was, and what time it was."""

    seq: int
    at_us: int


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; None means any.

    `text` stands anywhere in a job's id, path, key, idempotency key, lane, cron or error, ASCII letters in either case,
    or as it is in its stored arguments.  Of the jobs `until` a mark those are left that were accepted by then, and have
    not ended since.
    """

    paths: tuple[str, ...] | None = None
    state: State | None = None
    key: str | None = None
    cause: Cause | None = None
    lane: str | None = None
    cron: str | None = None
    text: str | None = None
    until: Mark | None = None


class Counted(NamedTuple):
    """How many jobs match, of those that were looked at; `complete` when that was all of them."""

    jobs: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """How many jobs and crons there are, by what they wait for; one consistent read.

    `due` are the pending jobs whose fire time has come, `oldest_due_at` is the earliest of these times.  Both count
    jobs that wait for their turn in a lane, for a slot, or for a pause to end.  `ended` are the jobs that are kept
    until their time is up, `failed` among them; one that is kept for ever is not counted there.  A cron is `troubled`
    when it can't go on, or is ahead of the clock.
    """

    pending: int
    due: int
    in_progress: int
    failed: int
    ended: int
    oldest_due_at: datetime | None
    crons: int
    crons_paused: int
    crons_troubled: int


@dataclass(frozen=True, slots=True)
class Upcoming:
    """What starts at a moment: a pending job, or the next fire time of a cron, its jitter included.

    `at` may be past: what is due, and waits.  `path` is the function's.  A job has an `id`, and a `key` if it was given
    one; `cron` is the cron's name, also of a job that is the run of one.
    """

    kind: Literal["job", "cron"]
    at: datetime
    path: str
    id: str | None
    cron: str | None
    key: str | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; `next_cursor` is None on the last."""

    items: Sequence[T]
    next_cursor: str | None
