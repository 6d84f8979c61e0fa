"""The judge: a pure function from a history to the promises it breaks.

It knows nothing of how the scheduler works, only what was asked, what was answered, what was seen, and what is left.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from tests.proof.crons import broken
from tests.proof.history import INNER, TERMINAL, Body, History, JobRow, Trace, seq_of
from tests.proof.view import View

PAUSE_US: Final = 2_000_000  # after a first failed attempt; twice as long after each further one
RATE: Final = (3, 10_000_000)  # starts, and microseconds
LATE_US_MAX: Final = 60_000_000  # once nothing fails any more


class Rule(StrEnum):
    """The promises, one name each."""

    LOST = "an acknowledged job or mutation is gone"
    UNFINISHED = "a job has not ended though the app was left to finish"
    REFUSED_EXISTS = "something definitely refused exists"
    SPLIT = "a mutation's effect and its success differ"
    DOUBLED = "a mutation took effect more than once"
    JOB_DOUBLED = "one request made more than one job"
    STARTED_TOO_OFTEN = "an action was started more often than it may be"
    ATTEMPTS = "the numbers of a job's attempts do not increase one by one"
    NOT_STARTED = "an action succeeded without having been started"
    GAVE_UP = "a job failed for good though it may be tried again"
    PAUSE = "an attempt followed the one before too soon"
    RESCHEDULED = "a retry changed what a function is told of its job"
    LANE = "two jobs of one lane ran at once, or one ran between the attempts of another"
    OVER_LIMIT = "more actions ran at once, or in a while, than may"
    PAUSED = "something was dispatched while the app was paused"
    TWO_LIVE = "two attempts of one job ran at once"
    EARLY = "something ran before it was due"
    LATE = "something ran late though nothing failed"
    ORDER = "jobs due at the same time ran in another order than they were accepted"
    CANCELED_RAN = "a job ran, or will, though its cancellation was acknowledged"
    CANCELED_BY_NOBODY = "a job is canceled and nobody canceled it"
    ROLLED_BACK = "something of a rolled-back mutation exists"
    CHILD_MISSING = "a committed function's scheduled job is missing"
    PARTIAL = "a part of an all-or-none batch exists"
    IDEMPOTENCY = "one idempotency key stands for more than one call"
    KEY_SHARED = "two unfinished jobs have one key"
    KEY_LOST = "a job does not have the key it was given"
    ID_REUSED = "one id, or its number, was given out for two jobs"
    NUMBER_REUSED = "the number of a rolled-back job, whose id was handed out, was given out again"
    STATE_CHANGED = "a job took a step that its state does not allow"
    TIMES = "the moments in a job's row contradict each other"
    UNPLANNED = "a job's outcome is not the one its function gave"
    GHOST = "something exists that nobody asked for"
    UNEXPECTED = "a call failed in an unexpected way"
    INDEX = "the index and the file differ"
    STRANDED = "a job is in progress though nothing runs it"
    ALARM = "the alarm is set too late, or not at all"
    SPINS = "the app keeps itself busy while it waits"
    HANGS = "something waits for ever"
    TICKS = "the ticks of a cron are not each accounted for once"
    TICK_RUN = "a run of a cron is not that of its tick"
    TICK_EARLY = "a cron ran before its tick"
    TICK_EFFECTS = "what a cron's run did, and how it ended, differ"
    TICK_UNTOLD = "runs were not told of all ticks that were dropped before them"
    CRON_STANDS = "a cron does not go on"
    FILE = "the file is damaged"


class Violation(NamedTuple):
    """One broken promise."""

    rule: Rule
    subject: str
    detail: str = ""


def check(history: History) -> list[Violation]:
    """Return every promise this history breaks."""
    view = View(history)
    return [violation for rule in _RULES for violation in rule(view)]


# ------------------------------------------------------------------ answers


def _acknowledged(view: View) -> Iterator[Violation]:
    for ask, op, job_id in view.acked_ids():
        row = view.row_by_id.get(job_id)
        if row is None:
            yield Violation(Rule.LOST, op, job_id)
        elif row.op != op and not (ask.key is not None and ask.on_conflict == "keep" and row.key == ask.key):
            yield Violation(Rule.ID_REUSED, op, f"{job_id} is the job of {row.op}")
        elif ask.key is not None and row.key != ask.key:
            yield Violation(Rule.KEY_LOST, op, f"asked for {ask.key}, has {row.key}")
    for op, ask in view.asks.items():
        if ask.do == "live" and view.history.acks(op) and not view.effects[op]:
            yield Violation(Rule.LOST, op, "a live mutation")
        if ask.do == "act" and view.history.acks(op) and not view.effects[ask.bodies[0].inner.op]:
            yield Violation(Rule.LOST, op, "the mutation of a live action")


def _refused(view: View) -> Iterator[Violation]:
    for op, ask in view.asks.items():
        if ask.do in ("schedule", "many", "live") and view.history.definitely_refused(op):
            for body in ask.bodies:
                if view.rows[body.op] or view.effects[body.op]:
                    yield Violation(Rule.REFUSED_EXISTS, body.op, f"{view.history.answers[op]}")


def _unexpected(view: View) -> Iterator[Violation]:
    for op, answers in view.history.answers.items():
        for answer in answers:
            if answer.verdict == "error":
                yield Violation(Rule.UNEXPECTED, op, str(answer.value))


def _found(view: View) -> Iterator[Violation]:
    """What the engine saw by itself."""
    for finding in view.history.findings:
        yield Violation(Rule[finding.rule], finding.subject, finding.detail)


# ------------------------------------------------------------------ states


def _states(view: View) -> Iterator[Violation]:
    """No job takes a step that its state does not allow, from one look to the next."""
    looks = [*view.history.snapshots, {row.id: (row.state, row.attempt) for row in view.history.rows}]
    for before, after in pairwise(looks):
        for job_id, (state, attempt) in before.items():
            now = after.get(job_id)
            if now is None:
                yield Violation(Rule.LOST, job_id, f"it was {state}")
            elif state in TERMINAL and now[0] != state and not (state == "failed" and view.retries[job_id]):
                yield Violation(Rule.STATE_CHANGED, job_id, f"{state}, then {now[0]}")
            elif now[1] < attempt:
                yield Violation(Rule.ATTEMPTS, job_id, f"attempt {attempt}, then {now[1]}")
    for op, ask in view.asks.items():
        if ask.do != "get":
            continue
        row = view.row_by_id.get(ask.target or "")
        for state in view.history.acks(op):
            if row is None or state is None:  # only acknowledged ids are looked up
                yield Violation(Rule.LOST, ask.target or "", f"was seen as {state}")
            elif state in TERMINAL and row.state != state and not (state == "failed" and view.retries[row.id]):
                yield Violation(Rule.STATE_CHANGED, row.id, f"{state}, then {row.state}")


def _finished(view: View) -> Iterator[Violation]:
    keys: Counter[str] = Counter()
    for row in view.history.rows:
        if row.state not in TERMINAL:
            yield Violation(Rule.UNFINISHED, row.op, f"{row.id} is {row.state}")
            if row.key is not None:
                keys[row.key] += 1
    yield from (Violation(Rule.KEY_SHARED, key) for key, count in keys.items() if count > 1)


def _times(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        ran = row.state in ("success", "failed")
        if (row.completed_at_us is None) == (row.state in TERMINAL):
            yield Violation(Rule.TIMES, row.op, f"{row.state}, completed at {row.completed_at_us}")
        if row.state == "success" and (row.started_at_us is None or row.attempt < 1):
            yield Violation(Rule.TIMES, row.op, f"success of attempt {row.attempt} begun at {row.started_at_us}")
        if ran and not row.attempt and row.cause != "crash_loop":
            yield Violation(Rule.ATTEMPTS, row.op, f"{row.state} without an attempt")


# ------------------------------------------------------------------ runs


def _mutations(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        ask = view.asked_by.get(row.op)
        # A live call with an idempotency key leaves a row, but runs without being that job.
        count = view.effects[row.op] if ask is not None and ask.do == "live" else view.effects_of_job[row.id]
        if row.kind != "mutation" or row.state not in TERMINAL or row.id in view.canceled_at:
            continue
        if count <= 1 and (count == 1) != (row.state == "success"):
            yield Violation(Rule.SPLIT, row.op, f"{row.state}, {count} effects")
        if count > 1:
            yield Violation(Rule.DOUBLED, row.op, f"{count} effects")
    for op, count in view.effects.items():
        ask = view.asked_by.get(op)
        most = max(view.starts_of_op[op.removesuffix(INNER)], 1) if op.endswith(INNER) else max(len(view.rows[op]), 1)
        if count > most and (ask is None or ask.idem is None):
            yield Violation(Rule.DOUBLED, op, f"{count} effects")


def _actions(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        if row.kind != "action":
            continue
        starts, body = view.starts_of_job[row.id], view.bodies.get(row.op)
        attempts = body.attempts if body is not None else 1
        if len(starts) > attempts + view.retries[row.id]:
            yield Violation(Rule.STARTED_TOO_OFTEN, row.op, f"{len(starts)} starts, {attempts} attempts")
        numbers = [trace.attempt for trace in starts]
        if any(later <= before for before, later in pairwise(numbers)):
            yield Violation(Rule.ATTEMPTS, row.op, f"started as {numbers}")
        if numbers and numbers[-1] > row.attempt:
            yield Violation(Rule.ATTEMPTS, row.op, f"started as {numbers}, the row says {row.attempt}")
        if any((trace.scheduled_at_us, trace.occurrence_id) != (row.scheduled_at_us, row.id) for trace in starts):
            yield Violation(Rule.RESCHEDULED, row.op, f"told {starts}, the row says {row.scheduled_at_us}")
        if row.state != "success":
            continue
        if not starts:
            yield Violation(Rule.NOT_STARTED, row.op)
        if body is not None and body.writes and not view.effects[body.inner.op]:
            yield Violation(Rule.LOST, body.inner.op, "the mutation of an action that succeeded")


def _pauses(view: View) -> Iterator[Violation]:
    """Every attempt is a pause after the one before: at least what the policy says, less its jitter."""
    if not view.history.steady:
        return
    for row in view.history.rows:
        body = view.bodies.get(row.op)
        if body is None or body.attempts < 2 or view.retries[row.id]:
            continue
        for before, later in pairwise(view.starts_of_job[row.id]):
            least_us = PAUSE_US * 2 ** (before.attempt - 1) * 9 // 10
            if later.mono_us - before.mono_us < least_us:
                yield Violation(
                    Rule.PAUSE, row.op, f"{later.mono_us - before.mono_us} us after attempt {before.attempt}"
                )


def _lanes(view: View) -> Iterator[Violation]:
    """A job that is tried again holds its lane: no other one runs between its attempts."""
    lanes: defaultdict[str, list[str]] = defaultdict(list)
    for trace in view.history.starts:
        body = view.bodies.get(trace.op)
        if body is not None and body.lane is not None and trace.job is not None and not view.retries[trace.job]:
            runs = lanes[body.lane]
            if not runs or runs[-1] != trace.job:
                runs.append(trace.job)
    for lane, runs in lanes.items():
        twice = [job for job, times in Counter(runs).items() if times > 1]
        yield from (Violation(Rule.LANE, lane, f"{job} ran, then another one, then it again") for job in twice)


def _rates(view: View) -> Iterator[Violation]:
    """Of an action with a rate no more start in a while than it says."""
    if not view.history.prompt:
        return
    times = [
        trace.mono_us
        for trace in view.history.starts
        if trace.job is not None and (body := view.bodies.get(trace.op)) is not None and body.place == "rate"
    ]
    most, period_us = RATE
    for first_us, last_us in zip(times, times[most:], strict=False):
        if last_us - first_us < period_us:
            yield Violation(Rule.OVER_LIMIT, "rate", f"{most + 1} starts in {last_us - first_us} us")


def _early(view: View) -> Iterator[Violation]:
    for what in (view.history.effects, view.history.starts):
        for trace in what:
            row = view.row_by_id.get(trace.job or "")
            if row is None or trace.op != row.op:
                continue
            due_us = max(row.scheduled_at_us, _asked_due_us(view, trace))
            if trace.at_us < due_us:
                yield Violation(Rule.EARLY, trace.op, f"by {due_us - trace.at_us} us")


def _asked_due_us(view: View, trace: Trace) -> int:
    """Return the earliest moment at which the sender, by its own clock, could expect this."""
    ask = view.asked_by.get(trace.op)
    if ask is None or ask.do in ("live", "act"):
        return 0
    return min(sent.at_us for sent in view.history.sent[ask.op]) + view.bodies[trace.op].delay_us


def _late(view: View) -> Iterator[Violation]:
    healed_us = view.history.healed_us
    if healed_us is None:
        return
    for row in view.history.rows:
        body = view.bodies.get(row.op)
        if body is None or body.lane is not None or row.kind != "mutation" or row.started_at_us is None:
            continue
        if row.fire_at_us >= healed_us:
            late_us = row.started_at_us - row.fire_at_us
            if late_us > LATE_US_MAX:
                yield Violation(Rule.LATE, row.op, f"by {late_us / 1e6:.3f} s")


def _in_order(view: View) -> Iterator[Violation]:
    """Jobs due at the same time run in the order of their acceptance, when nothing was refused on the way."""
    if not view.history.in_order:
        return
    for runs in (view.history.effects, sorted(view.history.starts, key=lambda trace: trace.order)):
        last: dict[tuple[int, int], tuple[int, str]] = {}
        for trace in runs:
            row = view.row_by_id.get(trace.job or "")
            if row is None or trace.op != row.op or trace.attempt > 1:
                continue
            body = view.bodies.get(row.op)
            if body is None or body.lane is not None or body.place:
                continue  # what waits for others may be passed
            due = (row.scheduled_at_us, body.priority)
            before = last.get(due)
            if before is not None and before[0] > row.seq:
                yield Violation(Rule.ORDER, trace.op, f"ran after {before[1]}, which was accepted later")
            last[due] = (row.seq, trace.op)


# ------------------------------------------------------------------ canceling


def _canceled(view: View) -> Iterator[Violation]:
    for job_id, told_at in view.answered_at.items():
        later = [trace for trace in view.starts_of_job[job_id] if trace.order > told_at]
        if later and not view.retries[job_id]:
            yield Violation(Rule.CANCELED_RAN, later[0].op, f"attempt {later[0].attempt} started after the answer")
    for job_id, told_at in view.canceled_at.items():
        row = view.row_by_id.get(job_id)
        if row is None or row.state not in TERMINAL:
            continue
        # It may have run before: an attempt that failed, or one that was stopped.
        before = row.attempt > 0 or view.retries[job_id]
        later = [trace for trace in view.starts_of_job[job_id] if trace.order > told_at or not before]
        ran = len(later) + view.effects_of_job[job_id]
        if ran or row.state != "canceled":
            yield Violation(Rule.CANCELED_RAN, row.op, f"{row.state}, ran {ran} times")
    may_cancel = view.asked_to_end
    for row in view.history.rows:
        if row.state == "canceled" and row.id not in may_cancel and (row.key is None or row.key not in may_cancel):
            yield Violation(Rule.CANCELED_BY_NOBODY, row.op)


def _outcomes(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        body = view.bodies.get(row.op)
        if body is None or row.state not in ("success", "failed"):
            continue
        said = f"{row.state} as attempt {row.attempt} {row.cause or ''} {row.error or ''}"
        if row.state == "success":
            timed_out = body.timeout_us and body.nap_us > body.timeout_us and view.history.steady
            if row.attempt <= body.fails or timed_out:
                yield Violation(Rule.UNPLANNED, row.op, said)
            continue
        if not _may_fail(view, row, body):
            yield Violation(Rule.UNPLANNED, row.op, said)
        asked_to_end = row.id in view.asked_to_end or row.key in view.asked_to_end
        if row.attempt < body.attempts and row.cause != "crash_loop" and not asked_to_end:
            yield Violation(Rule.GAVE_UP, row.op, f"{said} of {body.attempts}")


def _may_fail(view: View, row: JobRow, body: Body) -> bool:
    match row.cause:
        case "crash_loop":
            return True
        case "interrupted":
            return row.kind == "action"
        case "timeout":
            return bool(body.timeout_us) or view.history.interrupted
        case "error":  # its own, or that of a call it made while the store took nothing
            calls = row.kind == "action" and bool(body.writes or body.children or body.chain)
            return row.attempt <= body.fails or calls
    return False


# ------------------------------------------------------------------ transactions


def _children(view: View) -> Iterator[Violation]:
    for op in view.nested:
        if view.effects[op]:
            yield Violation(Rule.ROLLED_BACK, op, "the effect of a nested mutation that failed")
    for op, children in view.children.items():
        done = _stands(view, op, view.bodies[op])
        for child in children:
            if done is True and not view.rows[child]:
                yield Violation(Rule.CHILD_MISSING, child, f"of {op}")
            if done is False and view.rows[child]:
                yield Violation(Rule.ROLLED_BACK, child, f"of {op}")


def _stands(view: View, op: str, body: Body) -> bool | None:
    """Return whether what this body scheduled must exist (True), must not (False), or may (None)."""
    if body.kind == "mutation":
        return view.effects[op] > 0
    if any(row.state == "success" for row in view.rows[op]):
        return True
    return None if view.starts_of_op[op] else False


def _batches(view: View) -> Iterator[Violation]:
    for op, ask in view.asks.items():
        if ask.do == "many" and not view.history.acks(op):
            there = sum(bool(view.rows[body.op]) for body in ask.bodies)
            if 0 < there < len(ask.bodies):
                yield Violation(Rule.PARTIAL, op, f"{there} of {len(ask.bodies)}")


# ------------------------------------------------------------------ identity


def _idempotency(view: View) -> Iterator[Violation]:
    by_key = Counter(row.idem for row in view.history.rows if row.idem is not None)
    for op, ask in view.asks.items():
        if ask.idem is None:
            continue
        rows = max(by_key[ask.idem], len(view.rows[op]))
        answers = {str(ack) for ack in view.history.acks(op)}
        if rows > 1 or view.effects[op] > 1 or len(answers) > 1:
            yield Violation(Rule.IDEMPOTENCY, op, f"{rows} jobs, {view.effects[op]} effects, answers {answers}")


def _one_job_each(view: View) -> Iterator[Violation]:
    parent = {child: op for op, children in view.children.items() for child in children}
    for op, rows in view.rows.items():
        ask = view.asked_by.get(op)
        if len(rows) < 2 or (ask is not None and ask.idem is not None):
            continue
        runs = view.starts_of_op[parent[op]] if op in parent else 1  # an action's child stands once for each attempt
        if len(rows) > runs:
            yield Violation(Rule.JOB_DOUBLED, op, f"{len(rows)} jobs")


def _ids(view: View) -> Iterator[Violation]:
    given: dict[int, str] = {}
    for _, op, job_id in view.acked_ids():
        other = given.setdefault(seq_of(job_id), job_id)
        if other != job_id:
            yield Violation(Rule.ID_REUSED, op, f"{other} and {job_id}")
    seqs = {row.seq: row for row in view.history.rows}
    leaked = Counter(job_id for answers in view.history.answers.values() for a in answers for job_id in a.leaked)
    for job_id, count in leaked.items():
        row = seqs.get(seq_of(job_id))
        if row is not None and row.id != job_id:
            yield Violation(Rule.NUMBER_REUSED, row.op, f"{row.id} has the number of {job_id}, which was rolled back")
        if count > 1:
            yield Violation(Rule.ID_REUSED, job_id, "given out twice, and rolled back twice")


def _ghosts(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        if row.op not in view.bodies:
            yield Violation(Rule.GHOST, row.op, "a job")
    jobs: defaultdict[str | None, str] = defaultdict(str)
    for what, traces in (("an effect", view.history.effects), ("a start", view.history.starts)):
        for trace in traces:
            if trace.op not in view.bodies or (trace.job is not None and trace.job not in view.row_by_id):
                yield Violation(Rule.GHOST, trace.op, what)
            elif jobs.setdefault(trace.job, trace.op) != trace.op and trace.job is not None:
                yield Violation(Rule.ID_REUSED, trace.op, f"its job is that of {jobs[trace.job]}")


def _crons(view: View) -> Iterator[Violation]:
    for rule, subject, detail in broken(view.history.crons):
        yield Violation(Rule[rule], subject, detail)


def _file(view: View) -> Iterator[Violation]:
    for error in view.history.file_errors:
        yield Violation(Rule.FILE, "file", error)


_RULES = (
    _acknowledged, _refused, _unexpected, _found, _states, _finished, _times, _mutations, _actions, _pauses, _lanes, _rates, _early, _late,
    _in_order, _canceled, _outcomes, _children, _batches, _idempotency, _one_job_each, _ids, _ghosts, _crons, _file,
)  # fmt: skip
