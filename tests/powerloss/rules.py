"""What must hold of a file that was opened after a power cut. Pure: a history and a file's content, to violations.

The promises are those of `tests.crash.checker`, held against a moment instead of an end: jobs may still be pending.
To them come those that only such a moment can show.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from tests.crash.checker import check
from tests.crash.history import TERMINAL, History, Trace
from tests.crash.rules import Rule, Violation
from tests.crash.view import View


class AfterCut(StrEnum):
    """The promises that only the moment after a cut can show."""

    UNUSABLE = "the file can't be opened, or is damaged"
    NOT_A_PREFIX = "the file holds something that was never a committed state"
    EFFECT_BEFORE_END = "a mutation took effect, and would run again"
    WOULD_START_AGAIN = "an action was started, and its row knows nothing of it"
    CANCEL_LOST = "an acknowledged cancellation is gone"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds after our own recovery, or why it can't be read."""

    left: History = field(default_factory=History)  # its rows, and what else the crash test reads of it
    state: str = ""  # stands for everything in the tables: two files with the same hold the same
    errors: tuple[str, ...] = ()

    def of(self, told: History) -> History:
        """Return the history of this file: what was told, and what is left."""
        return replace(self.left, asks=told.asks, answers=told.answers)


_NOT_YET: Final = frozenset({Rule.UNFINISHED, Rule.FILE})


def broken(told: History, content: Content, committed: Collection[str], *, durable: bool = True) -> list[Violation]:
    """Return every promise that is broken when this content is what is left of what was told.

    `committed` are the states that some commit made.  Without `durable` (synchronous=NORMAL) what was acknowledged may
    be gone, and with it the row of an action that was started: only what is there is judged.
    """
    if content.errors:
        return [Violation(_rule(AfterCut.UNUSABLE), "file", error) for error in content.errors]
    seen = content.of(told)
    if not durable:
        known = {row.id: row.attempt for row in (*seen.rows, *seen.crons.runs)}

        def of_known(starts: Iterable[Trace]) -> list[Trace]:
            return [start for start in starts if start.attempt <= known.get(start.job or "", 0)]

        crons = replace(seen.crons, starts=of_known(seen.crons.starts))
        seen = replace(seen, answers={}, starts=of_known(seen.starts), crons=crons)
    violations = [found for found in check(seen) if found.rule not in _NOT_YET]
    if content.state not in committed:
        violations.append(Violation(_rule(AfterCut.NOT_A_PREFIX), "file"))
    violations.extend(_pending(View(seen), durable=durable))
    return violations


def _pending(view: View, *, durable: bool) -> Iterator[Violation]:
    """Judge the jobs that have not ended: what they did already, they will do again."""
    starts = Counter(trace.job for trace in view.history.starts)
    for row in view.history.rows:
        if row.state in TERMINAL:
            continue
        if row.kind == "mutation" and view.effects_of_job[row.id]:
            yield Violation(_rule(AfterCut.EFFECT_BEFORE_END), row.op)
        if durable and row.kind == "action" and starts[row.id] > row.attempt:
            yield Violation(_rule(AfterCut.WOULD_START_AGAIN), row.op, f"{starts[row.id]} starts")
        if row.id in view.canceled_ids:
            yield Violation(_rule(AfterCut.CANCEL_LOST), row.op, row.state)
    crons = view.history.crons
    effects, starts = Counter(trace.job for trace in crons.effects), Counter(trace.job for trace in crons.starts)
    for run in crons.runs:
        if run.state not in TERMINAL and effects[run.id]:
            yield Violation(_rule(AfterCut.EFFECT_BEFORE_END), f"{run.cron} {run.tick_us}")
        if run.state not in TERMINAL and durable and starts[run.id] > run.attempt:
            yield Violation(_rule(AfterCut.WOULD_START_AGAIN), f"{run.cron} {run.tick_us}", f"{starts[run.id]} starts")


def _rule(rule: AfterCut) -> Rule:
    return rule  # type: ignore[return-value]  # one report holds the rules of both checkers
