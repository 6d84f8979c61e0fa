"""Processes that die again and again, in the same job or in the same start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from actor_scheduler.crashpoints import POINTS
from actor_scheduler.limits import DEATHS_MAX
from tests.crash.campaign import Kill, first_plan, read_out, run_series
from tests.crash.functions import DEADLY
from tests.crash.history import Ask, Body, History, plain
from tests.crash.lives import Nursery
from tests.crash.plan import STATEMENT, Plan

_LIVES_MAX = 12  # more than all the deaths there may be
_STATEMENTS = 45  # of a start, and of the first turns after it


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One nursery for all the tests here."""
    with Nursery(tmp_path_factory.mktemp("repeated") / "log") as nursery:
        yield nursery


def _lives(bodies: list[Body], folder: Path, nursery: Nursery) -> tuple[int, History]:
    """Schedule these for a moment after the first life, and live until a life ends by itself; return how many died."""
    plan = Plan(db=str(folder / "crash.db"), starts=str(folder / "starts"), workers=0)
    asks = [plain(Ask(body.op, "schedule", (replace(body, delay_us=400_000),))) for body in bodies]
    history = History()
    for life in range(_LIVES_MAX):
        now = replace(plan, life=life, resend=asks) if life == 0 else replace(plan, life=life, finish_within_s=20.0)
        ended = nursery.live(now.save(folder / "plan.json"))
        assert ended.status in (0, DEADLY)
        for event in ended.events:
            history.take(event)
        if life and ended.status == 0:
            break
    read_out(history, Path(plan.db), Path(plan.starts))
    return life - 1, history


def _ends(history: History) -> dict[str, tuple[str, str | None]]:
    return {row.op: (row.state, row.cause) for row in history.rows}


def test_k15_a_mutation_that_kills_each_process_is_put_aside_and_the_others_run(
    tmp_path: Path, nursery: Nursery
) -> None:
    """After DEATHS_MAX deaths in a row it is failed: crash_loop; those behind it take effect, once."""
    died, history = _lives([Body("deadly", deadly=True), Body("a"), Body("b", kind="action")], tmp_path, nursery)
    assert died == DEATHS_MAX
    assert _ends(history)["deadly"] == ("failed", "crash_loop")
    assert _ends(history)["a"] == ("success", None)
    assert [trace.op for trace in history.effects] == ["a"]


def test_k15_an_action_that_kills_each_process_runs_once_or_as_often_as_it_may(
    tmp_path: Path, nursery: Nursery
) -> None:
    """Without retries its first death is its end; with them the third in a row is, whatever else it is allowed."""
    once = Body("once", kind="action", deadly=True)
    died, history = _lives([once, Body("a")], tmp_path, nursery)
    assert died == 1
    assert _ends(history) == {"once": ("failed", "interrupted"), "a": ("success", None)}
    other = tmp_path / "again"
    other.mkdir()
    died, history = _lives([Body("again", kind="action", deadly=True, tries=10)], other, nursery)
    assert died == DEATHS_MAX
    assert [trace.attempt for trace in history.starts if trace.op == "again"] == [1, 2, 3]
    assert _ends(history)["again"] == ("failed", "crash_loop")


def test_k14_every_attempt_that_died_with_its_process_is_on_record(tmp_path: Path, nursery: Nursery) -> None:
    """Whatever ended an attempt, if another followed, `failed_attempts` tells of it."""
    _, history = _lives([Body("again", kind="action", deadly=True, tries=10)], tmp_path, nursery)
    assert sorted(attempt for _, attempt in history.failed_us) == list(range(1, DEATHS_MAX))


@pytest.mark.parametrize("point", sorted(point for point in POINTS if point.startswith("boot.")))
def test_k17_a_start_that_dies_again_and_again_at_one_point_leaves_the_next_one_whole(
    point: str, tmp_path: Path, nursery: Nursery
) -> None:
    """A busy file, four starts that die at the same point, and one that finishes: nothing is broken."""
    report = run_series([Kill(None, 60), *[Kill(point, 1)] * 4, Kill(None, 30)], first_plan(tmp_path, 1), nursery)
    assert report.violations == [], report.text()
    assert report.troubles == [], report.text()
    assert report.kills[point] == 4


def test_k17_a_start_that_dies_at_each_of_its_statements_leaves_the_next_one_whole(
    tmp_path: Path, nursery: Nursery
) -> None:
    """On one busy file: the first start dies at its first statement, the next one at its second, and so on."""
    at_each = [Kill(STATEMENT, at) for at in range(1, _STATEMENTS + 1)]
    report = run_series([Kill(None, 60), *at_each, Kill(None, 30)], first_plan(tmp_path, 2), nursery)
    assert report.violations == [], report.text()
    assert report.troubles == [], report.text()
    assert report.kills[STATEMENT] == _STATEMENTS
