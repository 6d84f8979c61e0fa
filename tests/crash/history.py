"""What a crash test knows of one database file: what was asked, what was answered, and what was there in the end.

Asks and answers come from the children over a pipe, starts from a file outside the database, the rest from the
database after a last run that was left to finish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from tests.crash.cron_history import CronsLeft

Do: TypeAlias = Literal[
    "schedule", "many", "live", "cancel", "get", "wait", "drop", "pool",
    "register", "unregister", "reschedule", "pause", "resume", "run_cron", "dispatch",
]  # fmt: skip
Kind: TypeAlias = Literal["mutation", "action"]
Verdict: TypeAlias = Literal["ack", "refused", "unknown", "error"]

TERMINAL = frozenset({"success", "failed", "canceled"})
PAUSE_US = 40_000  # between two attempts, more or less
PAUSE_PART = 0.5  # by how much of it, at most
PAUSE_US_MIN = int(PAUSE_US * (1 - PAUSE_PART))
INNER = "+m"  # what an action's own mutation adds to the action's op


@dataclass(frozen=True, slots=True)
class Body:
    """What one function is told to do. A mutation leaves one effect row under `op`, an action one line of starts.

    `children` are scheduled by it; `nested` is a mutation that it runs, that fails, and whose failure it catches;
    `cancel` is a job it cancels; with `fail` it raises at its very end; an action with `writes` runs a mutation, sleeps
    for `nap_us`, and, when it is canceled in its sleep, goes on for `stubborn_us`.  As a job it is tried up to `tries`
    times, of which the first `flaky` fail; `timeout_us` bounds an action's attempts (0: nothing does); `lane` is the
    lane it waits in; a `brief` one is forgotten soon after it ended; a `deadly` one ends its process; `registers` is a cron that it registers.
    """

    op: str
    kind: Kind = "mutation"
    fail: bool = False
    delay_us: int = 0
    children: tuple[Body, ...] = ()
    nested: Body | None = None
    cancel: str | None = None
    writes: bool = False
    nap_us: int = 5_000
    stubborn_us: int = 0
    tries: int = 1
    flaky: int = 0
    timeout_us: int = 0
    lane: str | None = None
    brief: bool = False
    deadly: bool = False
    registers: str | None = None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Body:
        """Make a body from what `plain` gave."""
        nested = plain["nested"]
        children = tuple(cls.of(child) for child in plain["children"])
        return cls(**{**plain, "children": children, "nested": cls.of(nested) if nested is not None else None})

    @property
    def must_fail(self) -> bool:
        """Whether no attempt that is left to its end can succeed."""
        return self.fail or self.flaky >= self.tries

    @property
    def inner(self) -> Body:
        """The mutation that an action with `writes` runs."""
        return Body(self.op + INNER)


@dataclass(frozen=True, slots=True)
class Ask:
    """One call from outside. An ask with an idempotency key may be sent again, in a later life, unchanged."""

    op: str
    do: Do
    bodies: tuple[Body, ...] = ()
    key: str | None = None
    on_conflict: str = "keep"
    idem: str | None = None
    target: str | None = None  # a job's id, of cancel, get, wait and drop
    target_key: str | None = None  # of cancel
    running: bool = False  # of cancel: a running action is to stop
    value: int | None = None  # of pool: its new limit; of reschedule: the new interval in microseconds
    cron: str | None = None  # its name, of all that is about one

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Ask:
        """Make an ask from what `plain` gave."""
        return cls(**{**plain, "bodies": tuple(Body.of(body) for body in plain["bodies"])})


def plain(value: Body | Ask) -> dict[str, Any]:
    """Return a body or an ask as a value that travels: over the pipe, and as a job's arguments."""
    travels: dict[str, Any] = _listed(asdict(value))
    return travels


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(item) for name, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave. `refused` is definite: nothing was done. No answer at all leaves it open, once."""

    verdict: Verdict
    value: Any = None  # ids, a bool, a state, a mutation's result
    leaked: tuple[str, ...] = ()  # ids that a mutation handed out before it was rolled back
    at_us: int = 0  # when it came; 0 where nobody noted it


@dataclass(frozen=True, slots=True)
class JobRow:
    """One row of the jobs table at the end."""

    id: str
    op: str
    kind: Kind
    state: str
    scheduled_at_us: int
    started_at_us: int | None = None
    cause: str | None = None
    error: str | None = None
    key: str | None = None
    idem: str | None = None
    canceled: bool = False  # its result says that it canceled its target
    attempt: int = 1
    created_at_us: int = 0
    completed_at_us: int = 0
    lane: str | None = None

    @property
    def due_us(self) -> int:
        """When its first attempt could start."""
        return max(self.scheduled_at_us, self.created_at_us)

    @property
    def seq(self) -> int:
        """The sequence number in the id."""
        return seq_of(self.id)


@dataclass(frozen=True, slots=True)
class Trace:
    """One effect row, or one start of an action: who did it, for which job (None: a live call), when, which attempt."""

    op: str
    job: str | None
    at_us: int
    attempt: int = 1


@dataclass(slots=True)
class History:
    """One database file, from its first life to its last."""

    asks: dict[str, list[tuple[Ask, int]]] = field(default_factory=dict)  # with the moment it was sent
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    rows: Sequence[JobRow] = ()
    effects: Sequence[Trace] = ()
    starts: Sequence[Trace] = ()
    failed_us: dict[tuple[str, int], int] = field(default_factory=dict)  # when an attempt failed, if another followed
    file_errors: Sequence[str] = ()
    pool: int | None = None  # the limit that was set
    crons: CronsLeft = field(default_factory=CronsLeft)
    manifest: int | None = None  # the version with which the app last started
    caught_up_us: int | None = None  # when the last life had waited for every cron

    def take(self, event: Sequence[Any]) -> None:
        """Add one line of a child's pipe."""
        match event:
            case ["ask", ask, at_us]:
                asked = Ask.of(ask)
                self.asks.setdefault(asked.op, []).append((asked, at_us))
            case ["answer", op, verdict, value, leaked, *at_us]:
                self.answers.setdefault(op, []).append(Answer(verdict, value, tuple(leaked), *at_us))
            case ["manifest", version]:
                self.manifest = version
            case ["caught_up", at_us]:
                self.caught_up_us = at_us
            case _:
                msg = f"a child wrote {event!r}"
                raise ValueError(msg)

    def acks(self, op: str) -> list[Any]:
        """Return the values of a call's acknowledgements."""
        return [answer.value for answer in self.answers.get(op, ()) if answer.verdict == "ack"]

    def definitely_refused(self, op: str) -> bool:
        """Whether every sending of this call was answered with a definite refusal."""
        answers = self.answers.get(op, [])
        return len(answers) == len(self.asks[op]) and all(answer.verdict == "refused" for answer in answers)

    def unacknowledged(self) -> list[Ask]:
        """Return the calls with an idempotency key that a sender would send again: neither done nor in conflict."""
        return [
            sent[0][0]
            for op, sent in self.asks.items()
            if sent[0][0].idem is not None
            and not any(a.verdict == "ack" or a.value == "KeyConflict" for a in self.answers.get(op, ()))
        ]


def seq_of(job_id: str) -> int:
    """Return the sequence number in a job's id."""
    return int(job_id[:16], 16)
