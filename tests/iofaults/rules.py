"""What must hold after an I/O call failed. Pure: what a process told, and the file it left, to violations."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tests.crash.checker import check
from tests.crash.history import History
from tests.crash.rules import Rule, Violation
from tests.powerloss.rules import Content, broken


class AfterFault(StrEnum):
    """The promises that only a failing disk can show."""

    HUNG = "the process did not end"
    BUSY = "the app tried again and again without a pause"
    DIED = "the process ended as none should"
    UNCLEAR = "a start or a stop failed without a clear error"
    UNANSWERED = "a call was never answered"
    UNHEALTHY = "the disk is well again, and the app is not"
    UNHEARD = "the disk is well again, and a call was not taken"


@dataclass(frozen=True, slots=True)
class Ended:
    """How one process ended, and what it told."""

    told: Sequence[Sequence[Any]]
    status: int
    hung: bool = False

    @property
    def fired(self) -> int:
        """How many calls were failed."""
        return next((event[1] for event in self.told if event[0] == "fired"), 0)

    @property
    def calls(self) -> dict[str, int]:
        """How many calls of each class could have failed."""
        return next((event[2] for event in self.told if event[0] == "fired"), {})


def judge(before: History, ended: Ended, content: Content, *, heals: bool) -> list[Violation]:
    """Return every promise that is broken. With `heals` the disk was well again in the end, and all work must be done.

    `before` is what earlier processes were told about the same file.
    """
    history = replace(before, asks=dict(before.asks), answers=dict(before.answers))
    for event in ended.told:
        if event[0] in ("ask", "answer", "manifest", "caught_up"):
            history.take(event)
    violations = list(_process(ended, history, heals=heals))
    found = broken(history, content, {content.state})
    if heals and not content.errors and all(bad.rule is not AfterFault.BUSY for bad in violations):
        whole = replace(content.of(history), manifest=history.manifest, caught_up_us=history.caught_up_us)
        at_the_end = (Rule.UNFINISHED, Rule.CRON_STOPPED, Rule.CRON_LOST, Rule.CRON_GHOST)
        found += [bad for bad in check(whole) if bad.rule in at_the_end and bad not in found]
    failed = {row.op for row in content.left.rows if row.kind == "action" and row.cause == "error"}
    return violations + [bad for bad in found if not _expected(bad, failed)]


def _expected(found: Violation, failed_actions: Collection[str]) -> bool:
    """Whether it only shows that the disk failed, or how this is measured.

    The virtual clock runs ahead of the one that the functions note.  An action whose own calls the store refuses, fails.
    """
    return found.rule in (Rule.EARLY, Rule.LANE) or (found.rule is Rule.UNPLANNED and found.subject in failed_actions)


def _process(ended: Ended, history: History, *, heals: bool) -> Iterator[Violation]:
    if ended.hung:
        yield _bad(AfterFault.HUNG, "process")
        return
    for event in ended.told:
        if event[0] == "busy":
            yield _bad(AfterFault.BUSY, "app", event[1])
            return
    if ended.status != 0:
        yield _bad(AfterFault.DIED, "process", f"status {ended.status}")
    for event in ended.told:
        if event[0] in ("start", "stop") and not event[1]:
            yield _bad(AfterFault.UNCLEAR, event[0], event[2])
        if event[0] == "healed" and event[1] is not None:
            yield _bad(AfterFault.UNHEALTHY, "app", event[1])
    for op, sent in history.asks.items():
        if len(history.answers.get(op, ())) < len(sent):
            yield _bad(AfterFault.UNANSWERED, op)
    if heals and not history.acks("probe"):
        yield _bad(AfterFault.UNHEARD, "probe", str(history.answers.get("probe")))


def _bad(rule: AfterFault, subject: str, detail: str = "") -> Violation:
    return Violation(rule, subject, detail)  # type: ignore[arg-type]  # one report holds the rules of all checkers
