"""What a proof engine knows of one database file: what was asked, what was answered, what was seen, and what is left.

Pure values.  An engine fills a History while it runs an app and breaks it; `tests.proof.checker` judges it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

from tests.proof.ticks import When

Do: TypeAlias = Literal["schedule", "many", "live", "act", "cancel", "get", "retry", "count", "pause", "resume", "pool"]
Place: TypeAlias = Literal["", "pool", "single", "rate"]
Kind: TypeAlias = Literal["mutation", "action"]
Verdict: TypeAlias = Literal["ack", "refused", "unknown", "error"]

TERMINAL = frozenset({"success", "failed", "canceled"})
INNER = "+m"  # what an action's own mutation adds to the action's op
ALWAYS = 1_000  # of `Body.fails`: every attempt


@dataclass(frozen=True, slots=True)
class Body:
    """What one function is told to do. A mutation leaves one effect row under `op`, an action one start.

    `fails` is how many of its first attempts raise, at their very end.  `children` are scheduled by it; `nested` is a
    mutation that it runs, that fails, and whose failure it catches; `cancel` is a job it cancels; an action with
    `writes` runs a mutation, and naps for `nap_us`.  A light one does nothing but leave its trace, and schedule the
    next link of its chain: link n of `op` is called `op.n`, and the last one is number 0.

    The rest is how it is scheduled: tried up to `attempts` times, each for at most `timeout_us` (0: as long as it
    likes), in a lane, with a priority; `place` says which of the actions it is, each with limits of its own.
    """

    op: str
    kind: Kind = "mutation"
    fails: int = 0
    delay_us: int = 0
    children: tuple[Body, ...] = ()
    nested: Body | None = None
    cancel: str | None = None
    writes: bool = False
    nap_us: int = 0
    light: bool = False
    chain: int = 0
    every_us: int = 0
    attempts: int = 1
    timeout_us: int = 0
    lane: str | None = None
    priority: int = 0
    place: Place = ""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Body:
        """Make a body from what `plain` gave."""
        given = dict(plain)
        given["children"] = tuple(cls.of(child) for child in given.get("children", ()))
        if given.get("nested") is not None:
            given["nested"] = cls.of(given["nested"])
        return cls(**given)

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
    target: str | None = None  # a job's id, of cancel, get and retry
    target_key: str | None = None  # of cancel
    running: bool = False  # of cancel: stop it, too, if it runs
    limit: int | None = None  # of pool
    after_us: int = 0  # its sender waits so long first


_PLAIN = Body("")


def plain(body: Body) -> dict[str, Any]:
    """Return a body as a value that travels as a job's arguments; what is as usual is left out."""
    found: dict[str, Any] = {"op": body.op}
    for name in Body.__slots__[1:]:
        value = getattr(body, name)
        if value != getattr(_PLAIN, name):
            if name == "children":
                value = [plain(child) for child in value]
            found[name] = plain(value) if isinstance(value, Body) else value
    return found


class Answer(NamedTuple):
    """What a call gave. `refused` is definite: nothing was done. No answer at all leaves it open, once."""

    verdict: Verdict
    value: Any = None  # ids, a bool, a state, a mutation's result
    leaked: tuple[str, ...] = ()  # ids that a mutation handed out before it was rolled back
    order: int = 0  # among all events


class Sent(NamedTuple):
    """One sending of a call."""

    ask: Ask
    at_us: int
    order: int


@dataclass(frozen=True, slots=True)
class JobRow:
    """One row of the jobs table."""

    id: str
    op: str
    kind: Kind
    state: str
    scheduled_at_us: int
    fire_at_us: int = 0
    started_at_us: int | None = None
    completed_at_us: int | None = None
    attempt: int = 0
    cause: str | None = None
    error: str | None = None
    key: str | None = None
    idem: str | None = None
    canceled: bool = False  # its result says that it canceled its target

    @property
    def seq(self) -> int:
        """The sequence number in the id."""
        return seq_of(self.id)


class Trace(NamedTuple):
    """One effect row, or one start of an action: who did it, for which job (None: a live call), when, as which attempt.

    `at_us` is the latest that the wall clock had shown: what was due then may run now, though the clock went back.
    `turn` numbers what was put on its way together; `order` counts all events (of effects: in order of their rows).
    """

    op: str
    job: str | None
    at_us: int
    attempt: int = 1
    order: int = 0
    turn: int = 0
    mono_us: int = 0  # virtual time that no step touches
    scheduled_at_us: int = 0  # as the function was told
    occurrence_id: str = ""  # the same


class CronRow(NamedTuple):
    """A cron, as it stands at the end; its definition has been the same all along."""

    name: str
    when: When
    kind: Kind
    attempts: int
    jitter_us: int
    created_at_us: int
    anchor_us: int
    watermark_us: int
    skipped: int  # dropped ticks that no run has been told of
    fire_at_us: int | None
    trouble: str | None


class TickRow(NamedTuple):
    """A run of a cron, as it stands in the table of jobs."""

    id: str
    cron: str
    tick_us: int | None
    scheduled_at_us: int
    created_at_us: int
    state: str
    cause: str | None
    attempt: int
    occurrence_id: str | None
    skipped: int  # dropped ticks that it was told of


class SkipRow(NamedTuple):
    """A stretch of ticks that did not run."""

    cron: str
    reason: str
    first_us: int
    last_us: int
    ticks: int


class CronTrace(NamedTuple):
    """One effect of a cron's mutation, or one start of its action."""

    cron: str
    job: str
    attempt: int
    at_us: int
    scheduled_at_us: int
    occurrence_id: str


@dataclass(slots=True)
class CronBook:
    """What is left of the crons of a file, and what was seen of their runs."""

    rows: Sequence[CronRow] = ()
    ticks: Sequence[TickRow] = ()
    skips: Sequence[SkipRow] = ()
    effects: Sequence[CronTrace] = ()
    starts: list[CronTrace] = field(default_factory=list)
    reasons: frozenset[str] = frozenset({"policy", "cap", "age", "overlap"})  # for which ticks may be dropped
    rested_us: int | None = None  # by then everything that was due had been brought to account


class Finding(NamedTuple):
    """Something wrong that only the engine could see, while it happened."""

    rule: str
    subject: str
    detail: str


@dataclass(slots=True)
class History:
    """One database file, from its first life to its last."""

    sent: dict[str, list[Sent]] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    starts: list[Trace] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    snapshots: list[Mapping[str, tuple[str, int]]] = field(default_factory=list)  # id: state and attempt, now and then
    rows: Sequence[JobRow] = ()
    effects: Sequence[Trace] = ()
    file_errors: Sequence[str] = ()
    interrupted: bool = False  # whether statements were interrupted: a mutation may have failed for that
    in_order: bool = False  # whether the engine runs what is ready in the order in which it became so
    steady: bool = False  # whether no clock was stepped, and every alarm rang in time
    prompt: bool = False  # whether, besides, no call to the database took time
    crons: CronBook = field(default_factory=CronBook)
    healed_us: int | None = None  # from this moment of the wall clock on, nothing failed and no clock was stepped

    def acks(self, op: str) -> list[Any]:
        """Return the values of a call's acknowledgements."""
        return [answer.value for answer in self.answers.get(op, ()) if answer.verdict == "ack"]

    def definitely_refused(self, op: str) -> bool:
        """Whether every sending of this call was answered with a definite refusal."""
        answers = self.answers.get(op, [])
        return len(answers) == len(self.sent[op]) and all(answer.verdict == "refused" for answer in answers)

    def unacknowledged(self) -> list[Ask]:
        """Return the calls with an idempotency key that a sender would send again: neither done nor in conflict."""
        return [
            sent[0].ask
            for op, sent in self.sent.items()
            if sent[0].ask.idem is not None
            and not any(a.verdict == "ack" or a.value == "KeyConflict" for a in self.answers.get(op, ()))
        ]


def as_plain(history: History) -> dict[str, Any]:
    """Return a history as plain values, to be looked at."""
    return asdict(history)


def seq_of(job_id: str) -> int:
    """Return the sequence number in a job's id."""
    return int(job_id[:16], 16)
