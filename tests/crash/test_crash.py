"""SIGKILL at every named point and at any moment: no acknowledged job is lost, no effect is doubled.

CRASH_SEED and CRASH_KILLS choose another run; `python -m tests.crash --kills 2000 --seed 1` is the long one.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from actor_scheduler.crashpoints import POINTS
from tests.crash.campaign import Report, plan_kills, read_out, run
from tests.crash.checker import Rule, check
from tests.crash.history import History
from tests.crash.lives import live_once
from tests.crash.plan import Plan

SEED = int(os.environ.get("CRASH_SEED", "1"))
KNOWN: set[Rule] = set()
KILLS = int(os.environ.get("CRASH_KILLS", "120"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The campaign, run once for all the tests here."""
    return run(SEED, KILLS, tmp_path_factory.mktemp("crash"))


def test_no_promise_is_broken_by_any_kill(report: Report) -> None:
    """Nothing acknowledged is lost, nothing runs twice, nothing half-done stays, whatever the moment of death."""
    broken = [violation for _, violation in report.violations if violation.rule not in KNOWN]
    assert broken == [], f"CRASH_SEED={SEED} CRASH_KILLS={KILLS}\n{report.text()}"


def test_every_crash_point_is_died_at(report: Report) -> None:
    """A named point that no life dies at is not tested: the workload must reach each of them."""
    assert report.unreached() == [], f"CRASH_SEED={SEED} CRASH_KILLS={KILLS}\n{report.text()}"


def test_every_life_ends_by_the_kill_or_by_itself(report: Report) -> None:
    """A start that fails after a crash, an unexpected error, or a child that hangs, is a failure of recovery."""
    assert report.troubles == [], f"CRASH_SEED={SEED} CRASH_KILLS={KILLS}\n{report.text()}"


def test_the_campaign_is_as_large_as_it_says(report: Report) -> None:
    """Lives that die at other points, or by themselves, do not count as kills."""
    assert report.killed >= max(KILLS, 110)
    assert report.kills["random"] >= KILLS // 5


@pytest.mark.parametrize(
    "what",
    [
        "answers: ack", "calls never answered", "resent until acknowledged", "cancel: True", "cancel: False",
        "refused: PLANNED", "refused: KeyConflict", "refused: NotStarted", "ids of rolled-back jobs",
        "jobs: success", "jobs: canceled", "jobs: failed (error)", "jobs: failed (interrupted)", "action starts",
        "lives that ended by themselves",
    ],
)  # fmt: skip
def test_the_campaign_meets_every_kind_of_answer_and_end(report: Report, what: str) -> None:
    """The workload is not vacuous: each thing that the checker has a rule for did happen."""
    assert report.counts[what] > 0, report.text()


@pytest.mark.parametrize("total", [1, 110, 2_000])
def test_a_plan_has_every_point_and_as_many_kills_as_asked_for(total: int) -> None:
    """Whatever the size, no point is left out, and the same seed gives the same plan."""
    series = plan_kills(SEED, total)
    assert {kill.point for lives in series for kill in lives} >= POINTS
    assert sum(map(len, series)) >= total
    assert series == plan_kills(SEED, total)


def test_a_child_runs_from_the_command_line_too(tmp_path: Path) -> None:
    """What is forked is what `python -m tests.crash.child` starts: one dies at its point, the next one finishes."""
    plan = Plan(db=str(tmp_path / "crash.db"), starts=str(tmp_path / "starts"), die_at="turn.committed", die_after=4)
    history = History()
    died = live_once(plan, tmp_path)
    assert died.killed
    for event in died.events:
        history.take(event)
    last = live_once(Plan(db=plan.db, starts=plan.starts, life=1, finish_within_s=20.0), tmp_path)
    assert last.status == 0
    read_out(history, Path(plan.db), Path(plan.starts))
    assert check(history) == []
    assert any(history.acks(op) for op in history.asks)
