"""The judge of crons is itself judged: one history without fault, and one for each way to break a promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.crash.checker import check
from tests.crash.cron_history import MINUTE_US, CronRun, CronsLeft, CronState, Skip, Ticking
from tests.crash.crons import FINISH, manifest
from tests.crash.history import Ask, Body, History, Trace, plain
from tests.crash.rules import CRON_RULES, Rule

_T_US = 1_800_000_000_000_000  # a full minute
_FAST = Ticking(1_000)


class Story:
    """What a file holds of crons, and what was said of them; to be told with one thing changed."""

    def __init__(self) -> None:
        self.history = History(manifest=0, caught_up_us=_T_US + 3_500)
        self.log: list[CronState] = []
        self.runs: dict[str, CronRun] = {}
        self.skips: list[Skip] = []
        self.effects: list[Trace] = []
        self.starts: list[Trace] = []

    def row(self, change: Any, name: str, ticking: Ticking, anchor_us: int, upto_us: int, **more: Any) -> None:
        more.setdefault("fire_at_us", upto_us + 1)
        self.log.append(CronState(change, name, ticking, anchor_us, upto_us, **more))

    def ran(self, name: str, tick_us: int | None, kind: str = "mutation", state: str = "success", **more: Any) -> None:
        op, at_us = f"{name}@{'' if tick_us is None else tick_us}", (tick_us or _T_US) + 10
        run = CronRun(f"{len(self.runs):032x}", name, kind, state, tick_us, completed_at_us=at_us + 5, **more)
        self.runs[f"{op}{len(self.runs) if op in self.runs else ''}"] = run
        if state != "canceled":
            (self.effects if kind == "mutation" else self.starts).append(Trace(op, run.id, at_us))

    def ask(self, ask: Ask, *values: Any, verdict: Any = "ack") -> None:
        self.history.take(["ask", plain(ask), _T_US])
        for value in values:
            self.history.take(["answer", ask.op, verdict, value, [], _T_US + 1])

    def told(self) -> History:
        left = CronsLeft(self.log, list(self.runs.values()), self.skips, self.effects, self.starts)
        self.history.crons = left
        return self.history


def _faultless() -> Story:
    story = Story()
    for defined in manifest(0):  # as the code defines them; nothing of them is due yet
        ticking = Ticking(defined.plain.get("every_us"), defined.plain.get("cron", ""), "Europe/Paris", defined.target)
        story.row("insert", defined.name, replace(ticking, enabled=False), _T_US, _T_US)
    story.ask(Ask("r", "register", cron="a~kept"), None)
    story.row("insert", "a~kept", _FAST, _T_US, _T_US - 1)
    story.row("update", "a~kept", _FAST, _T_US, _T_US)
    story.ran("a~kept", _T_US, lane="@cron/a~kept")
    story.row("update", "a~kept", _FAST, _T_US, _T_US + 4_000)
    story.skips.append(Skip("a~kept", "policy", _T_US + 1_000, _T_US + 3_000, 3))
    story.ran("a~kept", _T_US + 4_000, lane="@cron/a~kept")
    story.ask(Ask("u", "reschedule", cron="b~gone", value=2_000), None)
    story.ask(Ask("rb", "register", cron="b~gone"), None)
    story.row("insert", "b~gone", _FAST, _T_US, _T_US - 1)
    story.row("update", "b~gone", Ticking(9_000), _T_US, _T_US - 1)  # first the definition, then the account
    story.row("update", "b~gone", Ticking(9_000), _T_US + 1_500, _T_US + 1_500)
    story.row("update", "b~gone", Ticking(2_000), _T_US + 1_500, _T_US + 1_500)  # and again, in the same turn
    story.row("update", "b~gone", Ticking(2_000), _T_US + 1_500, _T_US + 1_500)
    story.skips.append(Skip("b~gone", "stale_manifest", _T_US, _T_US + 1_000, 2))
    story.row("update", "b~gone", Ticking(2_000), _T_US + 1_500, _T_US + 3_500)
    story.ran("b~gone", _T_US + 3_500, "action")
    story.row("delete", "b~gone", Ticking(2_000), _T_US + 1_500, _T_US + 3_500)
    story.skips.append(Skip("b~gone", "stale_manifest", _T_US + 5_500, _T_US + 7_500, 2))
    story.ask(Ask("d", "unregister", cron="b~gone"), True)
    story.ask(Ask("live", "live", (Body("live", registers="c~once"),)), {"ran": "1", "canceled": False})
    story.history.effects = [Trace("live", None, _T_US)]
    story.row("insert", "c~once", _FAST, _T_US, _T_US - 1)
    story.row("update", "c~once", _FAST, _T_US, _T_US)
    story.ran("c~once", _T_US)
    story.row("delete", "c~once", _FAST, _T_US, _T_US)
    story.ask(Ask("bad", "live", (Body("bad", fail=True, registers="d~kept"),)), "PLANNED", verdict="refused")
    story.ask(Ask("no", "register", cron="e~kept"), "NotStarted", verdict="refused")
    story.ask(Ask("p", "pause", cron="f~kept"), None)
    story.ask(Ask("rf", "register", cron="f~kept"), None)
    story.row("insert", "f~kept", Ticking(None, "*/2 * * * *"), _T_US, _T_US - 3 * MINUTE_US)
    story.row("update", "f~kept", Ticking(None, "*/2 * * * *"), _T_US, _T_US)
    story.ran("f~kept", _T_US - 2 * MINUTE_US)
    story.ran("f~kept", _T_US, state="canceled", cause="stale_manifest")
    story.row("update", "f~kept", Ticking(None, "*/2 * * * *"), _T_US, _T_US, paused=True, fire_at_us=None)
    story.ask(Ask("hand", "run_cron", cron="f~kept"), f"{len(story.runs):032x}")
    story.ran("f~kept", None)
    return story


def _log(story: Story, name: str, at: int, **values: Any) -> None:
    """Change one row of the log: the n-th of this name."""
    place = [number for number, state in enumerate(story.log) if state.name == name][at]
    story.log[place] = replace(story.log[place], **values)


def _run(story: Story, op: str, **values: Any) -> None:
    story.runs[op] = replace(story.runs[op], **values)


def _again(story: Story, op: str) -> None:
    """Give a tick one more run, which died before it began."""
    story.runs["again"] = replace(story.runs[op], id="f" * 32, kind="action", state="failed", cause="interrupted")


def _forget(story: Story, name: str) -> None:
    story.log = [state for state in story.log if state.name != name]


_KEPT = f"a~kept@{_T_US + 4_000}"
_ACTED = f"b~gone@{_T_US + 3_500}"

_PLANTED: list[tuple[str, Rule, Callable[[Story], Any]]] = [
    ("a skip not recorded", Rule.TICK_LOST, lambda story: story.skips.pop(0)),
    ("a run not inserted", Rule.TICK_LOST, lambda story: (story.runs.pop(_KEPT), story.effects.pop(1))),
    ("the ticks of an old definition not recorded", Rule.TICK_LOST, lambda story: story.skips.pop(1)),
    ("a tick of an expression passed over", Rule.TICK_LOST, lambda story: _log(story, "f~kept", 0,
        watermark_us=_T_US - 5 * MINUTE_US)),
    ("two rows for a tick", Rule.TICK_TWICE, lambda story: _again(story, _KEPT)),
    ("a run that was skipped as well", Rule.TICK_TWICE, lambda story: story.skips.append(
        Skip("a~kept", "cap", _T_US, _T_US, 1))),
    ("two stretches over one tick", Rule.TICK_TWICE, lambda story: story.skips.append(
        Skip("a~kept", "cap", _T_US + 3_000, _T_US + 3_000, 1))),
    ("a wrong count", Rule.TICK_COUNT, lambda story: story.skips.__setitem__(0, replace(story.skips[0], ticks=4))),
    ("a run of no tick", Rule.GHOST, lambda story: (story.ran("a~kept", _T_US + 1),)),
    ("a skip of no tick", Rule.GHOST, lambda story: story.skips.append(Skip("a~kept", "cap", _T_US + 1, _T_US + 1, 1))),
    ("a run ahead of the watermark", Rule.GHOST, lambda story: story.ran("a~kept", _T_US + 5_000)),
    ("a watermark that goes back", Rule.WATERMARK, lambda story: story.row(
        "update", "a~kept", _FAST, _T_US, _T_US + 3_999)),
    ("a tick that took effect twice", Rule.DOUBLED, lambda story: story.effects.append(story.effects[0])),
    ("a run told another tick", Rule.GHOST, lambda story: story.effects.__setitem__(
        0, replace(story.effects[0], op=f"a~kept@{_T_US + 1}"))),
    ("a run without its effect", Rule.SPLIT, lambda story: story.effects.pop(0)),
    ("a run that never ended", Rule.UNFINISHED, lambda story: _run(story, _ACTED, state="in_progress")),
    ("an action started twice", Rule.STARTED_TWICE, lambda story: story.starts.append(story.starts[0])),
    ("an action never started", Rule.NOT_STARTED, lambda story: story.starts.clear()),
    ("a run canceled by nobody", Rule.CANCELED_BY_NOBODY, lambda story: _run(
        story, f"f~kept@{_T_US}", cause=None)),
    ("a run that failed by itself", Rule.UNPLANNED, lambda story: _run(story, _ACTED, state="failed", cause="error")),
    ("two runs at once", Rule.LANE, lambda story: _run(story, f"a~kept@{_T_US}", completed_at_us=_T_US + 9_000)),
    ("a registration lost", Rule.CRON_LOST, lambda story: story.ask(Ask("rg", "register", cron="g~kept"), None)),
    ("a registration lost with its mutation", Rule.CHILD_MISSING, lambda story: (
        _forget(story, "c~once"), story.effects.pop(2), story.runs.pop(f"c~once@{_T_US}"))),
    ("a refused registration exists", Rule.REFUSED_EXISTS, lambda story: story.row(
        "insert", "e~kept", _FAST, _T_US + 9_000, _T_US + 8_999)),
    ("a rolled-back registration exists", Rule.ROLLED_BACK, lambda story: story.row(
        "insert", "d~kept", _FAST, _T_US + 9_000, _T_US + 8_999)),
    ("a cron nobody registered", Rule.CRON_GHOST, lambda story: story.row(
        "insert", "x~kept", _FAST, _T_US + 9_000, _T_US + 8_999)),
    ("a cron that is gone", Rule.CRON_LOST, lambda story: story.row(
        "delete", "a~kept", _FAST, _T_US, _T_US + 4_000)),
    ("a deleted cron that is there", Rule.CRON_GHOST, lambda story: story.ask(
        Ask("d2", "unregister", cron="a~kept"), True)),
    ("a cron that deleted itself and is there", Rule.CRON_GHOST, lambda story: story.log.remove(next(
        state for state in story.log if state.name == "c~once" and state.change == "delete")) or _log(
        story, "c~once", -1, paused=True, note="by somebody")),
    ("a definition that is not there", Rule.CRON_LOST, lambda story: _forget(story, "removed")),
    ("a definition that is gone", Rule.CRON_GHOST, lambda story: story.row(
        "insert", "added", Ticking(35_000, enabled=False), _T_US, _T_US)),
    ("a definition of another version", Rule.CRON_LOST, lambda story: setattr(story.history, "manifest", 1) or (
        story.row("insert", "added", Ticking(35_000, enabled=False), _T_US, _T_US))),
    ("a cron that waits for nothing", Rule.CRON_STOPPED, lambda story: _log(story, "a~kept", -1, fire_at_us=None)),
    ("a cron in trouble", Rule.CRON_STOPPED, lambda story: _log(story, "fast", -1, trouble="unreadable")),
    ("a cron that does not fire", Rule.CRON_STOPPED, lambda story: setattr(
        story.history, "caught_up_us", _T_US + 5_000)),
    ("a cron that did not fire before the end", Rule.CRON_STOPPED, lambda story: (
        _log(story, "a~kept", -1, paused=True, note=FINISH), setattr(story.history, "caught_up_us", _T_US + 5_000))),
    ("a pause that does not hold", Rule.SETTING, lambda story: _log(story, "f~kept", -1, paused=False, fire_at_us=1)),
    ("a run by hand lost", Rule.LOST, lambda story: story.ask(Ask("h2", "run_cron", cron="a~kept"), "f" * 32)),
    ("a run by hand that nobody asked for", Rule.GHOST, lambda story: story.ran("a~kept", None)),
]  # fmt: skip


def test_a_faultless_history_breaks_nothing() -> None:
    """Runs, skips, changes and deletions that add up are no violation."""
    assert check(_faultless().told()) == []


@pytest.mark.parametrize(("rule", "plant"), [pytest.param(rule, plant, id=name) for name, rule, plant in _PLANTED])
def test_each_broken_promise_is_caught_by_its_own_rule(rule: Rule, plant: Callable[[Story], Any]) -> None:
    """One thing goes wrong in a history; the rule for it speaks up, and for nothing else."""
    story = _faultless()
    plant(story)
    assert {violation.rule for violation in check(story.told())} == {rule}


def test_every_rule_of_crons_has_a_history_that_breaks_it() -> None:
    """A rule that no history breaks could be one that never speaks."""
    assert {rule for _, rule, _ in _PLANTED} >= CRON_RULES


@pytest.mark.parametrize(
    ("ticking", "after", "upto", "ticks"),
    [
        (Ticking(10), -1, 25, [0, 10, 20]),
        (Ticking(10), 0, 20, [10, 20]),
        (Ticking(10), -50, -1, []),
        (Ticking(None, "*/2 * * * *"), -1, 3 * MINUTE_US, [0, 2 * MINUTE_US]),
        (Ticking(None, "30 1 * * *", "Europe/Paris"), 0, 60 * MINUTE_US, [30 * MINUTE_US]),
    ],
)
def test_ticks_are_worked_out_without_the_scheduler(ticking: Ticking, after: int, upto: int, ticks: list[int]) -> None:
    """By arithmetic from the anchor, or minute by minute. Paris is an hour ahead at the beginning of the epoch."""
    assert ticking.ticks(0, after, upto) == ticks
