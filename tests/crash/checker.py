"""The crash test's judge: a pure function from a history to the promises it breaks.

It knows nothing of how the scheduler works, only what was asked, what was answered, and what was found in the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tests.crash.cron_rules import broken_crons
from tests.crash.history import PAUSE_US_MIN, TERMINAL, Body, History, JobRow, Trace, seq_of
from tests.crash.rules import Rule, Violation
from tests.crash.view import View


def check(history: History) -> list[Violation]:
    """Return every promise this history breaks."""
    view = View(history)
    return [violation for rule in _RULES for violation in rule(view)]


# ------------------------------------------------------------------ answers


def _acknowledged(view: View) -> Iterator[Violation]:
    for ask, body, job_id in view.acked_ids():
        row = view.row_by_id.get(job_id)
        if row is None and body.brief:
            yield from _forgotten(view, body, job_id)
        elif row is None:
            yield Violation(Rule.LOST, body.op, job_id)
        elif row.op != body.op and not (ask.key is not None and ask.on_conflict == "keep" and row.key == ask.key):
            yield Violation(Rule.ID_REUSED, body.op, f"{job_id} is the job of {row.op}")
    for op, ask in view.asks.items():
        if ask.do == "live" and view.history.acks(op) and not view.effects[op]:
            yield Violation(Rule.LOST, op, "a live mutation")


def _forgotten(view: View, body: Body, job_id: str) -> Iterator[Violation]:
    """Judge a job that may have ended and been forgotten: what a mutation did is still there.

    An action may have died, claimed, before it began.
    """
    if body.kind == "mutation" and job_id not in view.asked_to_end and not view.effects_of_job[job_id]:
        yield Violation(Rule.LOST, body.op, f"{job_id} is gone, and never ran")


def _refused(view: View) -> Iterator[Violation]:
    for op, ask in view.asks.items():
        if view.history.definitely_refused(op):
            for body in ask.bodies:
                if view.rows[body.op] or view.effects[body.op]:
                    yield Violation(Rule.REFUSED_EXISTS, body.op, f"{view.history.answers[op]}")


def _unexpected(view: View) -> Iterator[Violation]:
    for op, answers in view.history.answers.items():
        for answer in answers:
            if answer.verdict == "error":
                yield Violation(Rule.UNEXPECTED, op, str(answer.value))


def _reported(view: View) -> Iterator[Violation]:
    for op, ask in view.asks.items():
        if ask.do not in ("get", "wait") or ask.target in view.brief:
            continue
        row = view.row_by_id.get(ask.target or "")
        if any(answer.value == "InvalidArgs" for answer in view.history.answers.get(op, ())):
            yield Violation(Rule.LOST, ask.target or "", "was not found")
        for state in view.history.acks(op):
            if row is None or state is None:  # only acknowledged ids are looked up
                yield Violation(Rule.LOST, ask.target or "", f"was seen as {state}")
            elif state in TERMINAL and row.state != state:
                yield Violation(Rule.STATE_CHANGED, row.id, f"{state}, then {row.state}")


# ------------------------------------------------------------------ jobs


def _finished(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        if row.state not in TERMINAL:
            yield Violation(Rule.UNFINISHED, row.op, row.state)


def _mutations(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        ask = view.asked_by.get(row.op)
        # A live call with an idempotency key leaves a row, but runs without being that job.
        count = view.effects[row.op] if ask is not None and ask.do == "live" else view.effects_of_job[row.id]
        if row.kind != "mutation" or row.state not in TERMINAL or row.id in view.canceled_ids:
            continue
        if count <= 1 and (count == 1) != (row.state == "success"):
            yield Violation(Rule.SPLIT, row.op, f"{row.state}, {count} effects")
    for op, count in view.effects.items():
        ask = view.asked_by.get(op)
        if count > max(view.times[op], 1) and (ask is None or ask.idem is None):
            yield Violation(Rule.DOUBLED, op, f"{count} effects")


def _actions(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        starts = [trace.attempt for trace in view.starts[row.id]]
        body = view.bodies.get(row.op)
        if len(starts) > (body.tries if body is not None else 1) or len(set(starts)) < len(starts):
            yield Violation(Rule.STARTED_TWICE, row.op, f"attempts {starts}")
        if starts != sorted(starts) or (starts and starts[-1] > row.attempt):
            yield Violation(Rule.ATTEMPTS, row.op, f"attempts {starts}, and {row.attempt} on record")
        if row.kind != "action" or row.state != "success":
            continue
        if not starts:
            yield Violation(Rule.NOT_STARTED, row.op)
        if body is not None and body.writes and not view.effects[body.inner.op]:
            yield Violation(Rule.LOST, body.inner.op, "the mutation of an action that succeeded")


def _early(view: View) -> Iterator[Violation]:
    for what in (view.history.effects, view.history.starts):
        for trace in what:
            row = view.row_by_id.get(trace.job or "")
            if row is None or trace.op != row.op:
                continue
            due_us = max(row.scheduled_at_us, _asked_due_us(view, trace))
            if trace.at_us < due_us:
                yield Violation(Rule.EARLY, trace.op, f"by {due_us - trace.at_us} us")
    began = {(trace.job, trace.attempt): trace for trace in view.history.starts}
    began |= {
        (trace.job, view.row_by_id[trace.job].attempt): trace
        for trace in view.history.effects
        if trace.job in view.row_by_id
    }
    for (job_id, attempt), failed_us in view.history.failed_us.items():
        following = began.get((job_id, attempt + 1))
        if following is not None and following.at_us < failed_us + PAUSE_US_MIN:
            yield Violation(Rule.EARLY, following.op, f"attempt {attempt + 1}, after {following.at_us - failed_us} us")


def _asked_due_us(view: View, trace: Trace) -> int:
    """Return the earliest moment at which the sender, by its own clock, could expect this."""
    ask = view.asked_by.get(trace.op)
    if ask is None or ask.do == "live":
        return 0
    first_us = min(at_us for _, at_us in view.history.asks[ask.op])
    return first_us + view.bodies[trace.op].delay_us


def _canceled(view: View) -> Iterator[Violation]:
    for job_id in view.canceled_ids:
        row = view.row_by_id.get(job_id)
        # One that waited for its next attempt, or was told to end in another life, has run before it was canceled.
        asked = view.cancels[job_id] + (view.cancels[row.key] if row is not None and row.key is not None else 0)
        ran_before = row is not None and (row.attempt > 1 or row.cause is not None or asked > 1)
        ran = view.effects_of_job[job_id] + (0 if ran_before else len(view.starts[job_id]))
        if row is not None and row.state in TERMINAL and (ran or row.state != "canceled"):
            yield Violation(Rule.CANCELED_RAN, row.op, f"{row.state}, ran {ran} times")
    for row in view.history.rows:
        if row.state == "canceled" and not _may_be_canceled(view, row):
            yield Violation(Rule.CANCELED_BY_NOBODY, row.op)
    yield from _started_after_cancel(view)


def _started_after_cancel(view: View) -> Iterator[Violation]:
    """Whatever a cancel said, once it has said it no attempt begins: the job ended, or ends, or is not tried again."""
    for op, ask in view.asks.items():
        said_us = [answer.at_us for answer in view.history.answers.get(op, ()) if answer.verdict == "ack"]
        if ask.do == "cancel" and ask.target is not None and said_us:
            for trace in view.starts[ask.target]:
                if min(said_us) and trace.at_us > min(said_us):
                    yield Violation(Rule.CANCELED_RAN, trace.op, f"attempt {trace.attempt} began after the answer")


def _may_be_canceled(view: View, row: JobRow) -> bool:
    """Whether somebody asked for it, or for the end of the action that scheduled it."""
    if row.id in view.asked_to_end or (row.key is not None and row.key in view.asked_to_end):
        return True
    parent = view.parents.get(row.op)
    return parent is not None and any(
        above.kind == "action" and (above.id in view.asked_to_end or above.key in view.asked_to_end)
        for above in view.rows[parent]
    )


def _outcomes(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        body = view.bodies.get(row.op)
        if body is None or row.state not in ("success", "failed"):
            continue
        if row.cause == "crash_loop":
            continue
        if row.kind == "action" and row.cause == "interrupted":
            if row.attempt != body.tries and row.id not in view.asked_to_end:
                yield Violation(Rule.ATTEMPTS, row.op, f"interrupted for good after {row.attempt} of {body.tries}")
            continue
        timed_out = row.cause == "timeout" and 0 < body.timeout_us < body.nap_us
        if not timed_out and body.must_fail != (row.state == "failed"):
            yield Violation(Rule.UNPLANNED, row.op, f"{row.state} {row.cause or ''} {row.error or ''}")
        if row.state == "failed" and row.attempt != body.tries and row.id not in view.asked_to_end:
            yield Violation(Rule.ATTEMPTS, row.op, f"failed for good after {row.attempt} of {body.tries}")
        if row.kind == "mutation" and row.state == "success" and row.attempt != body.flaky + 1:
            yield Violation(Rule.ATTEMPTS, row.op, f"succeeded as attempt {row.attempt}, told to fail {body.flaky}")


def _lanes(view: View) -> Iterator[Violation]:
    began = {trace.job: trace.at_us for trace in reversed(view.history.effects)}
    began |= {job: starts[0].at_us for job, starts in view.starts.items() if starts}
    for lane in {row.lane for row in view.history.rows} - {None}:
        ran = sorted(
            (row for row in view.history.rows if row.lane == lane and row.id in began), key=lambda row: began[row.id]
        )
        for before, after in pairwise(ran):
            if _ends_after(before, began[after.id]):
                yield Violation(Rule.LANE, after.op, f"began before {before.op} had ended")
        newest: JobRow | None = None
        for row in ran:
            if newest is not None and row.seq < newest.seq and row.due_us <= newest.due_us:
                yield Violation(Rule.LANE, row.op, f"began after {newest.op}, which came later")
            if newest is None or (row.due_us, row.seq) > (newest.due_us, newest.seq):
                newest = row


def _ends_after(row: JobRow, at_us: int) -> bool:
    """Whether a job had not ended at this moment."""
    return row.state not in TERMINAL or row.completed_at_us > at_us


# ------------------------------------------------------------------ transactions


def _children(view: View) -> Iterator[Violation]:
    for op, body in view.bodies.items():
        if op in view.nested and view.effects[op]:
            yield Violation(Rule.ROLLED_BACK, op, "the effect of a nested mutation that failed")
        done = view.stands(body)
        for child in body.children:
            if done is True and not view.rows[child.op]:
                yield Violation(Rule.CHILD_MISSING, child.op, f"of {op}")
            if done is False and view.rows[child.op]:
                yield Violation(Rule.ROLLED_BACK, child.op, f"of {op}")


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
    for op, rows in view.rows.items():
        ask = view.asked_by.get(op)
        if len(rows) > max(view.times[op], 1) and (ask is None or ask.idem is None):
            yield Violation(Rule.JOB_DOUBLED, op, f"{len(rows)} jobs")


def _ids(view: View) -> Iterator[Violation]:
    given: dict[int, str] = {}
    for _, body, job_id in view.acked_ids():
        other = given.setdefault(seq_of(job_id), job_id)
        if other != job_id:
            yield Violation(Rule.ID_REUSED, body.op, f"{other} and {job_id}")
    seqs = {row.seq: (row.id, row.op) for row in view.history.rows}
    seqs |= {seq_of(run.id): (run.id, run.cron) for run in view.history.crons.runs}
    leaked = Counter(job_id for answers in view.history.answers.values() for a in answers for job_id in a.leaked)
    for job_id, count in leaked.items():
        found_id, op = seqs.get(seq_of(job_id), (job_id, ""))
        if found_id != job_id:
            yield Violation(Rule.NUMBER_REUSED, op, f"{found_id} has the number of {job_id}, which was rolled back")
        if count > 1:
            yield Violation(Rule.ID_REUSED, job_id, "given out twice, and rolled back twice")


def _ghosts(view: View) -> Iterator[Violation]:
    for row in view.history.rows:
        if row.op not in view.bodies:
            yield Violation(Rule.GHOST, row.op, "a job")
    for op, ask in view.asks.items():
        if ask.do == "drop" and True in view.history.acks(op) and ask.target in view.row_by_id:
            yield Violation(Rule.GHOST, ask.target or "", "was dropped")
    for trace in view.history.effects:
        if trace.op not in view.bodies or (trace.job is not None and view.never_was(trace.job)):
            yield Violation(Rule.GHOST, trace.op, "an effect")
    for trace in view.history.starts:
        if trace.job is not None and view.never_was(trace.job):
            yield Violation(Rule.GHOST, trace.op, "a start of a job that does not exist")


def _settings(view: View) -> Iterator[Violation]:
    """The value in force is the last one acknowledged, or one that came after it or beside it."""
    sent = [(op, ask, at_us) for op, all_sent in view.history.asks.items() for ask, at_us in all_sent[:1]]
    pools = [(ask.value, at_us, view.answered_us(op)) for op, ask, at_us in sent if ask.do == "pool"]
    last_us = max((at_us for _, at_us, answered_us in pools if answered_us is not None), default=None)
    if last_us is not None:
        possible = {value for value, _, answered_us in pools if answered_us is None or answered_us >= last_us}
        if view.history.pool not in possible:
            yield Violation(Rule.SETTING, "pool", f"{view.history.pool}, not one of {possible}")


def _file(view: View) -> Iterator[Violation]:
    for error in view.history.file_errors:
        yield Violation(Rule.FILE, "file", error)


_RULES = (
    _acknowledged, _refused, _unexpected, _reported, _finished, _mutations, _actions, _early, _canceled, _outcomes,
    _children, _batches, _idempotency, _one_job_each, _ids, _ghosts, _file, _lanes, _settings, broken_crons,
)  # fmt: skip
