"""The crash test's judge is itself judged: one history without fault, and one for each way to break a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.crash.checker import check
from tests.crash.history import PAUSE_US_MIN, Answer, Ask, Body, History, JobRow, Trace, plain
from tests.crash.rules import CRON_RULES, Rule

_NOW_US = 1_000_000
_DELAY_US = 500
_DUE_US = _NOW_US + _DELAY_US
_LATER_US = _DUE_US + 100


def _id(seq: int, nonce: int = 7) -> str:
    return f"{seq:016x}{nonce:016x}"


def _row(seq: int, op: str, kind: Any = "mutation", state: str = "success", **more: Any) -> JobRow:
    return JobRow(_id(seq), op, kind, state, _DUE_US, **more)


class Story:
    """A history that can be told with one thing changed."""

    def __init__(self) -> None:
        self.history = History()
        self.rows: dict[str, JobRow] = {}
        self.effects: list[Trace] = []
        self.starts: list[Trace] = []

    def ask(self, ask: Ask, *answers: Answer, sent: int = 1) -> None:
        for _ in range(sent):
            self.history.take(["ask", plain(ask), _NOW_US])
        for answer in answers:
            self.history.take(["answer", ask.op, answer.verdict, answer.value, list(answer.leaked), answer.at_us])

    def row(self, row: JobRow) -> None:
        self.rows[row.op] = row

    def ran(self, op: str, job: int | None, at_us: int = _LATER_US) -> None:
        self.effects.append(Trace(op, None if job is None else _id(job), at_us))

    def started(self, op: str, job: int, attempt: int = 1, at_us: int = _LATER_US) -> None:
        self.starts.append(Trace(op, _id(job), at_us, attempt))

    def change(self, op: str, **values: Any) -> None:
        self.rows[op] = replace(self.rows[op], **values)

    def told(self) -> History:
        self.history.rows = list(self.rows.values())
        self.history.effects = self.effects
        self.history.starts = self.starts
        return self.history


def _faultless() -> Story:
    """Everything a child can ask for, answered and carried out as promised."""
    story = Story()
    parent = Body("parent", delay_us=_DELAY_US, children=(Body("parent/0", kind="action"),))
    story.ask(Ask("parent", "schedule", (parent,)), Answer("ack", _id(1)))
    story.row(_row(1, "parent"))
    story.ran("parent", 1)
    story.row(_row(2, "parent/0", "action"))
    story.started("parent/0", 2)
    # Sent, never answered; sent again in the next life, and answered.
    story.ask(Ask("once", "schedule", (Body("once"),), idem="o"), Answer("ack", _id(3)), sent=2)
    story.row(_row(3, "once", idem="o"))
    story.ran("once", 3)
    story.ask(Ask("many", "many", (Body("many-0"), Body("many-1"))), Answer("ack", [_id(4), _id(5)]))
    for at in (0, 1):
        story.row(_row(4 + at, f"many-{at}"))
        story.ran(f"many-{at}", 4 + at)
    story.ask(Ask("lost", "many", (Body("lost-0"), Body("lost-1"))))
    nested = Body("live/n", fail=True, children=(Body("live/n/0"),))
    live = Body("live", children=(Body("live/0"),), nested=nested)
    story.ask(Ask("live", "live", (live,)), Answer("ack", {"ran": "1", "canceled": False}))
    story.ran("live", None)
    story.row(_row(6, "live/0"))
    story.ran("live/0", 6)
    undone = Body("undone", fail=True, children=(Body("undone/0"),))
    story.ask(Ask("undone", "live", (undone,)), Answer("refused", "PLANNED", (_id(7),)))
    story.ask(Ask("later", "schedule", (Body("later"),)), Answer("ack", _id(8)))
    story.row(_row(8, "later", state="canceled"))
    story.ask(Ask("stop", "cancel", target=_id(8)), Answer("ack", value=True))
    story.ask(Ask("no", "schedule", (Body("no"),), key="k"), Answer("refused", "KeyConflict"))
    story.ask(Ask("look", "get", target=_id(1)), Answer("ack", "success"))
    story.ask(Ask("writer", "schedule", (Body("writer", kind="action", writes=True),)), Answer("ack", _id(9)))
    story.row(_row(9, "writer", "action"))
    story.started("writer", 9)
    story.ran("writer+m", None)
    story.ask(
        Ask("killed", "schedule", (Body("killed", kind="action", children=(Body("killed/0"),)),)),
        Answer("ack", _id(10)),
    )
    story.row(_row(10, "killed", "action", "failed", cause="interrupted"))
    story.started("killed", 10)
    story.ask(Ask("bad", "schedule", (Body("bad", fail=True),)), Answer("ack", _id(11)))
    story.row(_row(11, "bad", state="failed", cause="error"))
    story.ask(Ask("first", "schedule", (Body("first"),), key="shared"), Answer("ack", _id(12)))
    story.row(_row(12, "first", state="canceled", key="shared"))
    story.ask(Ask("second", "schedule", (Body("second"),), key="shared", on_conflict="replace"), Answer("ack", _id(13)))
    story.row(_row(13, "second", key="shared"))
    story.ran("second", 13)
    story.ask(Ask("third", "schedule", (Body("third"),), key="shared"), Answer("ack", _id(13)))  # keeps the second
    live_once = Ask("live_once", "live", (Body("live_once"),), idem="l")
    story.ask(live_once, *[Answer("ack", {"ran": "2", "canceled": False})] * 2, sent=2)
    story.row(_row(14, "live_once", idem="l"))
    story.ran("live_once", None)
    _tell_more(story)
    return story


def _tell_more(story: Story) -> None:
    """Tell of attempts, of a lane, of what was forgotten, and of an action that was stopped."""
    story.ask(Ask("tried", "schedule", (Body("tried", tries=2, flaky=1),)), Answer("ack", _id(20)))
    story.row(_row(20, "tried", attempt=2))
    story.ran("tried", 20)
    story.ask(Ask("again", "schedule", (Body("again", kind="action", tries=3, flaky=1),)), Answer("ack", _id(21)))
    story.row(_row(21, "again", "action", attempt=2))
    story.started("again", 21)
    story.history.failed_us = {(_id(20), 1): _LATER_US - PAUSE_US_MIN, (_id(21), 1): _LATER_US}
    story.started("again", 21, 2, _LATER_US + PAUSE_US_MIN)
    lane = tuple(Body(f"lane-{at}", lane="a") for at in (0, 1))
    story.ask(Ask("lane", "many", lane), Answer("ack", [_id(22), _id(23)]))
    for at in (0, 1):
        story.row(_row(22 + at, f"lane-{at}", lane="a", completed_at_us=_LATER_US + at))
        story.ran(f"lane-{at}", 22 + at, _LATER_US + at)
    story.ask(Ask("brief", "schedule", (Body("brief", brief=True),)), Answer("ack", _id(24)))
    story.ran("brief", 24)
    stopped = Body("stopped", kind="action", tries=2, children=(Body("stopped/0"),))
    story.ask(Ask("stopped", "schedule", (stopped,)), Answer("ack", _id(25)))
    story.ask(Ask("end it", "cancel", target=_id(25), running=True), Answer("ack", value=True, at_us=_LATER_US))
    story.row(_row(25, "stopped", "action", "canceled"))
    story.started("stopped", 25)
    story.row(_row(26, "stopped/0", state="canceled"))
    story.ask(Ask("limit", "pool", value=2), Answer("ack", at_us=_LATER_US))
    story.history.pool = 2
    story.ask(Ask("forget", "drop", target=_id(24)), Answer("ack", value=True))


def test_a_history_that_keeps_every_promise_is_without_violations() -> None:
    """The judge has nothing to say against lost answers, resends, crashes and planned failures as such."""
    assert check(_faultless().told()) == []


def _forget(op: str) -> Callable[[Story], None]:
    def plant(story: Story) -> None:
        job = story.rows.pop(op)
        story.effects = [trace for trace in story.effects if trace.job != job.id]
        story.starts = [trace for trace in story.starts if trace.job != job.id]

    return plant


def _no_effect(op: str) -> Callable[[Story], None]:
    def plant(story: Story) -> None:
        story.effects = [trace for trace in story.effects if trace.op != op]

    return plant


def _answered(op: str, *answers: Answer) -> Callable[[Story], None]:
    return lambda story: story.history.answers.update({op: list(answers)})


def _with_row(row: JobRow, *, ran: bool = True) -> Callable[[Story], None]:
    def plant(story: Story) -> None:
        story.rows[f"{row.op} {row.id}"] = row
        if ran:
            story.effects.append(Trace(row.op, row.id, _LATER_US))

    return plant


def _early(story: Story) -> None:
    story.effects = [replace(trace, at_us=_DUE_US - 1) if trace.op == "parent" else trace for trace in story.effects]


def _early_by_the_sender(story: Story) -> None:
    """The row itself claims to have been due sooner than the sender asked for."""
    story.change("parent", scheduled_at_us=_NOW_US)
    _early(story)


def _started_early(story: Story) -> None:
    story.starts = [replace(trace, at_us=_DUE_US - 1) if trace.op == "parent/0" else trace for trace in story.starts]


def _canceled_ran(story: Story) -> None:
    story.change("later", state="success")
    story.ran("later", 8)


def _overtaken(story: Story) -> None:
    """The lane's second job ran first, and had ended before the other began."""
    story.effects = [replace(trace, at_us=_LATER_US - 9) if trace.op == "lane-1" else trace for trace in story.effects]
    story.change("lane-1", completed_at_us=_LATER_US - 8)


_PLANTED: list[tuple[str, Rule, Callable[[Story], None]]] = [
    ("acknowledged job gone", Rule.LOST, _forget("once")),
    ("acknowledged job of a batch gone", Rule.LOST, _forget("many-1")),
    ("acknowledged live mutation gone", Rule.LOST, _no_effect("writer+m")),
    ("acknowledged job not found", Rule.LOST, _answered("look", Answer("ack", None))),
    ("acknowledged job not known", Rule.LOST, _answered("look", Answer("refused", "InvalidArgs"))),
    ("pending at the end", Rule.UNFINISHED, lambda story: story.change("killed", state="pending")),
    ("in progress at the end", Rule.UNFINISHED, lambda story: story.change("killed", state="in_progress")),
    ("refused job exists", Rule.REFUSED_EXISTS, _with_row(_row(50, "no", key="k"))),
    ("refused live mutation took effect", Rule.REFUSED_EXISTS, lambda story: (
        story.ran("undone", None), story.row(_row(51, "undone/0")), story.ran("undone/0", 51),
    ) and None),
    ("effect without success", Rule.SPLIT, lambda story: story.ran("bad", 11)),
    ("success without effect", Rule.SPLIT, _no_effect("once")),
    ("effect twice", Rule.DOUBLED, lambda story: story.ran("parent", 1)),
    ("live effect twice", Rule.DOUBLED, lambda story: story.ran("live", None)),
    ("two jobs for one request", Rule.JOB_DOUBLED, _with_row(
        _row(52, "killed", "action", "failed", cause="interrupted"),
    )),
    ("action started twice", Rule.STARTED_TWICE, lambda story: story.started("killed", 10)),
    ("action started once too often", Rule.STARTED_TWICE, lambda story: (
        story.change("parent/0", attempt=2), story.started("parent/0", 2, 2, _LATER_US + PAUSE_US_MIN),
    ) and None),
    ("one attempt twice", Rule.STARTED_TWICE, lambda story: story.started("again", 21, 2, _LATER_US + PAUSE_US_MIN)),
    ("a failed attempt not counted", Rule.ATTEMPTS, lambda story: story.change("tried", attempt=1)),
    ("failed for good too early", Rule.ATTEMPTS, lambda story: story.change("bad", attempt=0)),
    ("interrupted for good too early", Rule.ATTEMPTS, lambda story: story.change("killed", attempt=0)),
    ("an attempt nobody counted", Rule.ATTEMPTS, lambda story: story.change("again", attempt=1)),
    ("the next attempt without a pause", Rule.EARLY, lambda story: story.history.failed_us.update(
        {(_id(21), 1): _LATER_US + 1})),
    ("a mutation's next attempt without a pause", Rule.EARLY, lambda story: story.history.failed_us.update(
        {(_id(20), 1): _LATER_US})),
    ("two of a lane at once", Rule.LANE, lambda story: story.change("lane-0", completed_at_us=_LATER_US + 2)),
    ("a lane in the wrong order", Rule.LANE, _overtaken),
    ("a job forgotten before it ran", Rule.LOST, _no_effect("brief")),
    ("an attempt after the cancel's answer", Rule.CANCELED_RAN, lambda story: (
        story.change("stopped", attempt=2), story.started("stopped", 25, 2, _LATER_US + PAUSE_US_MIN),
    ) and None),
    ("action never started", Rule.NOT_STARTED, lambda story: story.starts.pop(0) and None),
    ("effect before due", Rule.EARLY, _early),
    ("effect before the sender's due", Rule.EARLY, _early_by_the_sender),
    ("action before due", Rule.EARLY, _started_early),
    ("canceled and ran", Rule.CANCELED_RAN, _canceled_ran),
    ("canceled and started", Rule.CANCELED_RAN, lambda story: story.started("later", 8)),
    ("canceled by nobody", Rule.CANCELED_BY_NOBODY, lambda story: story.history.asks.pop("stop") and None),
    ("job of a rolled-back mutation", Rule.ROLLED_BACK, _with_row(_row(7, "undone/0"))),
    ("job of a rolled-back nested mutation", Rule.ROLLED_BACK, _with_row(_row(53, "live/n/0"))),
    ("effect of a rolled-back nested mutation", Rule.ROLLED_BACK, lambda story: (
        story.ran("live/n", None), story.row(_row(54, "live/n/0")), story.ran("live/n/0", 54),
    ) and None),
    ("child of a committed mutation missing", Rule.CHILD_MISSING, _forget("parent/0")),
    ("child of a live mutation missing", Rule.CHILD_MISSING, _forget("live/0")),
    ("half a batch", Rule.PARTIAL, _with_row(_row(55, "lost-0"))),
    ("two jobs under one idempotency key", Rule.IDEMPOTENCY, _with_row(_row(56, "once"))),
    ("a resend ran again", Rule.IDEMPOTENCY, lambda story: story.ran("live_once", None)),
    ("a resend got another answer", Rule.IDEMPOTENCY, _answered(
        "live_once", Answer("ack", {"ran": "2", "canceled": False}), Answer("ack", {"ran": "3", "canceled": False}),
    )),
    ("an id stands for another job", Rule.ID_REUSED, _answered("bad", Answer("ack", _id(1)))),
    ("a rolled-back number is used again", Rule.NUMBER_REUSED, _answered(
        "undone", Answer("refused", "PLANNED", (_id(1, nonce=8),)),
    )),
    ("an ended job changed its state", Rule.STATE_CHANGED, _answered("look", Answer("ack", "failed"))),
    ("a mutation failed by itself", Rule.UNPLANNED, lambda story: (
        story.change("once", state="failed", cause="error"), _no_effect("once")(story),
    ) and None),
    ("a mutation succeeded though it raised", Rule.UNPLANNED, lambda story: (
        story.change("bad", state="success"), story.ran("bad", 11),
    ) and None),
    ("a job nobody asked for", Rule.GHOST, _with_row(_row(57, "ghost"))),
    ("a dropped job is there again", Rule.GHOST, lambda story: story.row(_row(24, "brief"))),
    ("a setting that does not hold", Rule.SETTING, lambda story: setattr(story.history, "pool", None)),
    ("a start of no job", Rule.GHOST, lambda story: story.started("killed", 58)),
    ("an unexpected error", Rule.UNEXPECTED, _answered("lost", Answer("error", "KeyError()"))),
    ("a damaged file", Rule.FILE, lambda story: setattr(story.history, "file_errors", ["row 1 missing from index"])),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "plant"), [pytest.param(rule, plant, id=name) for name, rule, plant in _PLANTED])
def test_each_broken_promise_is_caught_by_its_own_rule(rule: Rule, plant: Callable[[Story], None]) -> None:
    """One thing goes wrong in a history; exactly the rule for it speaks up."""
    story = _faultless()
    plant(story)
    assert {violation.rule for violation in check(story.told())} == {rule}


def test_every_rule_has_a_history_that_breaks_it() -> None:
    """A rule that no history breaks could be one that never speaks. Those of crons: in test_cron_rules.py."""
    assert {rule for _, rule, _ in _PLANTED} == set(Rule) - CRON_RULES
