"""A history, indexed for the rules."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

from tests.proof.history import Ask, Body, History, JobRow, Trace

_SOME_DAY: Final = 1 << 60


class View:
    """What the rules look things up in. Made once for a history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.asks: dict[str, Ask] = {op: sent[0].ask for op, sent in history.sent.items()}
        self.bodies: dict[str, Body] = {}
        self.nested: set[str] = set()
        self.children: dict[str, list[str]] = {}  # op of a body: the ops it schedules
        self.asked_by: dict[str, Ask] = {}  # of the bodies that came straight from outside
        for ask in self.asks.values():
            for body in ask.bodies:
                self.asked_by[first_op(body)] = ask
                self._walk(body)
        self.row_by_id = {row.id: row for row in history.rows}
        self.rows: defaultdict[str, list[JobRow]] = defaultdict(list)
        for row in history.rows:
            self.rows[row.op].append(row)
        self.effects: Counter[str] = Counter(trace.op for trace in history.effects)
        self.effects_of_job: Counter[str | None] = Counter(trace.job for trace in history.effects)
        self.starts_of_job: defaultdict[str | None, list[Trace]] = defaultdict(list)
        self.starts_of_op: Counter[str] = Counter()
        for trace in history.starts:
            self.starts_of_job[trace.job].append(trace)
            self.starts_of_op[trace.op] += 1
        self.retries = Counter(
            ask.target for op, ask in self.asks.items() if ask.do == "retry" and not history.definitely_refused(op)
        )
        self.asked_to_end = self._asked_to_end()
        # When whoever canceled it by its id had the answer: from then on no attempt of it starts.
        self.answered_at: dict[str, int] = {}
        for op, ask in self.asks.items():
            if ask.do == "cancel" and ask.target is not None:
                for answer in history.answers.get(op, ()):
                    if answer.verdict == "ack":
                        self.answered_at[ask.target] = min(answer.order, self.answered_at.get(ask.target, answer.order))
        self.canceled_at: dict[str, int] = {}  # id: when somebody was told that it will never start
        for job_id, order in self._canceled():
            self.canceled_at[job_id] = min(order, self.canceled_at.get(job_id, order))

    def _walk(self, body: Body) -> None:
        if body.light:
            self._walk_chain(body)
            return
        self.bodies[body.op] = body
        if body.writes:
            self.bodies[body.inner.op] = body.inner
        if body.nested is not None:
            self.nested.add(body.nested.op)
            self._walk(body.nested)
        if body.children:
            self.children[body.op] = [first_op(child) for child in body.children]
            for child in body.children:
                self._walk(child)

    def _walk_chain(self, body: Body) -> None:
        for left in range(body.chain, -1, -1):
            self.bodies[f"{body.op}.{left}"] = body
            if left:
                self.children[f"{body.op}.{left}"] = [f"{body.op}.{left - 1}"]

    def _asked_to_end(self) -> set[str]:
        """Return the ids and keys of what may have been canceled by what was asked and not rolled back."""
        possible = set()
        for op, ask in self.asks.items():
            if ask.do == "cancel" and not self.history.definitely_refused(op):
                possible.add(ask.target or ask.target_key or "")
            if ask.key is not None and ask.on_conflict == "replace" and self.rows[op]:
                possible.add(ask.key)
        possible.update(body.cancel for op, body in self.bodies.items() if body.cancel is not None and self.effects[op])
        for op, children in self.children.items():  # what a running job schedules once its end was asked for
            if any(row.id in possible or row.key in possible for row in self.rows[op]):
                possible.update(row.id for child in children for row in self.rows[child])
        return possible

    def _canceled(self) -> Iterator[tuple[str, int]]:
        """Yield the ids whose cancellation somebody was told of, and when."""
        for op, ask in self.asks.items():
            for answer in self.history.answers.get(op, ()):
                if answer.verdict != "ack":
                    continue
                if ask.do == "cancel" and answer.value is True and not ask.running:
                    if ask.target is not None:
                        yield ask.target, answer.order
                    # A key that is canceled by name is used by one job only.
                    for row in self.history.rows:
                        if ask.target_key and row.key == ask.target_key:
                            yield row.id, answer.order
                if ask.do == "live" and ask.bodies[0].cancel and answer.value["canceled"]:
                    yield ask.bodies[0].cancel, answer.order
        for row in self.history.rows:
            body = self.bodies.get(row.op)
            if row.canceled and row.state == "success" and body is not None and body.cancel is not None:
                yield body.cancel, _SOME_DAY  # when it was, only the file knows

    def acked_ids(self) -> Iterator[tuple[Ask, str, str]]:
        """Yield every acknowledged id, with the call and the op of the body it stands for."""
        for op, ask in self.asks.items():
            if ask.do not in ("schedule", "many"):
                continue
            for ack in self.history.acks(op):
                ids = [ack] if ask.do == "schedule" else ack
                yield from ((ask, first_op(body), job_id) for body, job_id in zip(ask.bodies, ids, strict=True))


def first_op(body: Body) -> str:
    """Return the op under which a body's job stands: the first link's, of a chain."""
    return f"{body.op}.{body.chain}" if body.light else body.op
