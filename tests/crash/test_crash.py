"""SIGKILL at every named point and at any moment: no acknowledged job is lost, no effect is doubled.

CRASH_SEED and CRASH_KILLS choose another run; `make crash` is the long one.  Every row of the fault model for a dying
process has its test: by its id (k1, k2, …) here and in test_repeated.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from actor_scheduler.crashpoints import POINTS
from tests.crash.campaign import Report, plan_kills, read_out, run
from tests.crash.checker import check
from tests.crash.history import History
from tests.crash.lives import live_once
from tests.crash.plan import Plan
from tests.crash.rules import CRON_RULES, Rule

SEED = int(os.environ.get("CRASH_SEED", "1"))
KNOWN: set[Rule] = set()
KILLS = int(os.environ.get("CRASH_KILLS", "300"))


@dataclass(frozen=True)
class Row:
    """A row of the fault model: the points at which it dies, and the promises that this puts to the test."""

    points: str
    rules: tuple[Rule, ...]


ROWS = {
    "k1_in_the_commit_of_a_schedule": Row(
        "turn.before_begin turn.begun schedule.before_insert schedule.inserted turn.before_commit",
        (Rule.GHOST, Rule.PARTIAL, Rule.REFUSED_EXISTS, Rule.ID_REUSED),
    ),
    "k2_after_the_commit_of_a_schedule": Row(
        "turn.committed turn.replied", (Rule.LOST, Rule.IDEMPOTENCY, Rule.JOB_DOUBLED)
    ),
    "k3_in_a_mutation_that_fails": Row(
        "mutation.failed_rolled_back mutation.failure_written",
        (Rule.ROLLED_BACK, Rule.CHILD_MISSING, Rule.NUMBER_REUSED),
    ),
    "k2_after_the_commit_of_a_setting_or_a_drop": Row(
        "setting.written drop.written turn.committed turn.replied", (Rule.SETTING, Rule.GHOST)
    ),
    "k4_after_the_alarm_was_set": Row("alarm.armed refill.read", (Rule.UNFINISHED, Rule.EARLY)),
    "k5_in_the_body_of_a_mutation": Row(
        "mutation.before mutation.savepoint mutation.body_done", (Rule.SPLIT, Rule.DOUBLED, Rule.UNPLANNED)
    ),
    "k6_before_the_commit_of_a_mutation": Row(
        "mutation.completion_written mutation.released turn.before_commit", (Rule.SPLIT, Rule.DOUBLED)
    ),
    "k7_after_the_commit_of_a_mutation": Row("turn.committed turn.replied", (Rule.DOUBLED, Rule.STATE_CHANGED)),
    "k8_before_the_claim_of_an_action": Row("claim.before claim.written", (Rule.STARTED_TWICE, Rule.UNFINISHED)),
    "k9_between_the_claim_and_the_outcome_of_an_action": Row(
        "action.before_start action.started action.body_done complete.before lanes.settled",
        (Rule.STARTED_TWICE, Rule.NOT_STARTED, Rule.ATTEMPTS, Rule.LANE),
    ),
    "k10_at_the_outcome_of_an_action": Row("complete.written turn.committed", (Rule.STATE_CHANGED, Rule.NOT_STARTED)),
    "k11_before_the_commit_of_a_tick": Row(
        "cron.before cron.runs_written cron.moved turn.before_commit",
        (*CRON_RULES, Rule.SPLIT, Rule.DOUBLED, Rule.UNFINISHED),
    ),
    "k12_after_the_commit_of_a_tick": Row(
        "turn.committed turn.replied", (*CRON_RULES, Rule.DOUBLED, Rule.STARTED_TWICE, Rule.UNFINISHED)
    ),
    "k3_in_the_change_of_a_cron": Row(
        "cron.stored cron.deleted manifest.staged manifest.activated",
        (*CRON_RULES, Rule.ROLLED_BACK, Rule.CHILD_MISSING, Rule.SETTING),
    ),
    "k13_in_a_cancel": Row("cancel.before cancel.after", (Rule.CANCELED_RAN, Rule.CANCELED_BY_NOBODY)),
    "k14_at_the_next_attempt_of_a_job": Row(
        "retry.before retry.written", (Rule.ATTEMPTS, Rule.STARTED_TWICE, Rule.EARLY, Rule.LANE)
    ),
    "k16_while_it_forgets_and_while_it_stops": Row(
        "prune.before prune.written shutdown.begun shutdown.drained shutdown.checkpointed shutdown.closed",
        (Rule.FILE, Rule.LOST, Rule.IDEMPOTENCY),
    ),
    "k17_in_its_start": Row(" ".join(sorted(point for point in POINTS if point.startswith("boot."))), tuple(Rule)),
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The campaign, run once for all the tests here."""
    return run(SEED, KILLS, tmp_path_factory.mktemp("crash"))


def test_no_promise_is_broken_by_any_kill(report: Report) -> None:
    """Nothing acknowledged is lost, nothing runs twice, nothing half-done stays, whatever the moment of death."""
    broken = [violation for _, violation in report.violations if violation.rule not in KNOWN]
    assert broken == [], f"CRASH_SEED={SEED} CRASH_KILLS={KILLS}\n{report.text()}"


@pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])
def test_a_death_of_this_kind_breaks_nothing(report: Report, row: Row) -> None:
    """Somebody died at each of its points, and none of the promises it could break is broken."""
    assert [point for point in row.points.split() if not report.kills[point]] == [], report.text()
    assert [violation for _, violation in report.violations if violation.rule in row.rules] == [], report.text()


def test_every_point_and_every_rule_belongs_to_a_row() -> None:
    """A point that no row names would be one whose meaning nobody knows."""
    assert {point for row in ROWS.values() for point in row.points.split()} == POINTS
    assert {rule for name, row in ROWS.items() if name[:3] != "k17" for rule in row.rules} >= set(Rule) - {
        Rule.UNEXPECTED  # of any call
    }


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
        "lives that ended by themselves", "cancel of what runs: True", "jobs: failed (timeout)", "jobs in lanes",
        "jobs tried again", "jobs forgotten", "crons: registered", "crons: deleted", "crons: runs by hand",
        "runs: mutation success", "runs: action success", "runs: action failed (interrupted)",
        "runs: mutation canceled (stale_manifest)", "ticks skipped: policy", "ticks skipped: cap", "ticks skipped: age",
        "ticks skipped: overlap", "ticks skipped: paused", "ticks skipped: stale_manifest", "ticks skipped: disabled",
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
