"""A history, indexed for its judge."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.crash.history import Ask, Body, History, JobRow, Trace


class View:
    """A history, indexed."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.asks: dict[str, Ask] = {op: sent[0][0] for op, sent in history.asks.items()}
        self.bodies: dict[str, Body] = {}
        self.times: Counter[str] = Counter()  # how often it may be done, of each body
        self.nested: set[str] = set()
        self.parents: dict[str, str] = {}  # who scheduled it, of what was scheduled by a function
        self.asked_by: dict[str, Ask] = {}  # of the bodies that came straight from outside
        for ask in self.asks.values():
            for body in ask.bodies:
                self.asked_by[body.op] = ask
                self._walk(body)
        self.row_by_id = {row.id: row for row in history.rows}
        self.rows: defaultdict[str, list[JobRow]] = defaultdict(list)
        for row in history.rows:
            self.rows[row.op].append(row)
        self.effects: Counter[str] = Counter(trace.op for trace in history.effects)
        self.effects_of_job: Counter[str | None] = Counter(trace.job for trace in history.effects)
        self.starts: defaultdict[str | None, list[Trace]] = defaultdict(list)
        for trace in sorted(history.starts, key=lambda trace: trace.at_us):
            self.starts[trace.job].append(trace)
        self.brief = {ack for ask, body, ack in self.acked_ids() if body.brief}
        self.canceled_ids = set(self._canceled())
        self.asked_to_end = _possible_cancels(self)
        self.cancels = Counter(ask.target or ask.target_key for ask in self.asks.values() if ask.do == "cancel")
        self.cancels.update(body.cancel for body in self.bodies.values() if body.cancel is not None)

    def _walk(self, body: Body, times: int = 1) -> None:
        self.bodies[body.op], self.times[body.op] = body, times
        inside = times * body.tries if body.kind == "action" else times  # what an attempt did before it failed, stands
        if body.writes:
            self.bodies[body.inner.op], self.times[body.inner.op] = body.inner, inside
        if body.nested is not None:
            self.nested.add(body.nested.op)
            self._walk(body.nested, inside)
        for child in body.children:
            self.parents[child.op] = body.op
            self._walk(child, inside)

    def _canceled(self) -> Iterator[str]:
        """Yield the ids whose cancellation somebody was told of."""
        for op, ask in self.asks.items():
            acks = self.history.acks(op)
            if ask.do == "cancel" and True in acks and not ask.running:
                if ask.target is not None:
                    yield ask.target
                # A key that is canceled by name is used by one job only.
                yield from (row.id for row in self.history.rows if ask.target_key and row.key == ask.target_key)
            if ask.do == "live" and ask.bodies[0].cancel and any(ack["canceled"] for ack in acks):
                yield ask.bodies[0].cancel
        for row in self.history.rows:
            body = self.bodies.get(row.op)
            if row.canceled and row.state == "success" and body is not None and body.cancel is not None:
                yield body.cancel

    def never_was(self, job_id: str) -> bool:
        """Whether there is no trace of such a job: no row, nor any that may have been forgotten."""
        if job_id in self.row_by_id:
            return False
        ops = {trace.op for trace in self.starts[job_id]}
        ops |= {trace.op for trace in self.history.effects if trace.job == job_id}
        return not any(op in self.bodies and self.bodies[op].brief for op in ops)

    def stands(self, body: Body) -> bool | None:
        """Return whether what this body scheduled must exist (True), must not (False), or may (None)."""
        if body.kind == "mutation":
            return self.effects[body.op] > 0
        if any(row.state == "success" for row in self.rows[body.op]):
            return True
        return None if any(self.starts[row.id] for row in self.rows[body.op]) else False

    def answered_us(self, op: str) -> int | None:
        """Return when this call was first acknowledged; None when it was not."""
        return min(
            (answer.at_us for answer in self.history.answers.get(op, ()) if answer.verdict == "ack"), default=None
        )

    def acked_ids(self) -> Iterator[tuple[Ask, Body, str]]:
        """Yield every acknowledged id, with the call and the body it stands for."""
        for op, ask in self.asks.items():
            for ack in self.history.acks(op):
                if ask.do == "schedule":
                    yield ask, ask.bodies[0], ack
                elif ask.do == "many":
                    yield from ((ask, body, job_id) for body, job_id in zip(ask.bodies, ack, strict=True))


def _possible_cancels(view: View) -> set[str | None]:
    """Return the ids and keys that may have been canceled by what was asked and not rolled back."""
    possible = set[str | None]()
    for op, ask in view.asks.items():
        if ask.do == "cancel" and not view.history.definitely_refused(op):
            possible.add(ask.target or ask.target_key or "")
        if ask.key is not None and ask.on_conflict == "replace" and view.rows[op]:
            possible.add(ask.key)
    possible.update(body.cancel for op, body in view.bodies.items() if body.cancel is not None and view.effects[op])
    return possible - {None, ""}
