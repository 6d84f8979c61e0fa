"""A process that dies while a cron fires: the rows K11 and K12 of the fault model, one death at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash.campaign import read_out
from tests.crash.checker import check
from tests.crash.history import History
from tests.crash.lives import Nursery
from tests.crash.plan import Plan

_PLAN = Plan(db="crash.db", starts="starts", workers=0, manifest=0, finish_within_s=20.0)
_INTERVALS = {
    "fast",
    "all",
    "aged",
    "late",
    "switched",
    "act",
    "turned",
    "moved",
    "removed",
}  # they tick when they begin
_COMMITS = 2  # the second turn fires them: the first one stores their definitions


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One nursery for all the tests here."""
    with Nursery(tmp_path_factory.mktemp("crons") / "log") as nursery:
        yield nursery


def _die(folder: Path, nursery: Nursery, point: str, after: int) -> tuple[History, History]:
    """Live until that point; return what the file holds then, and what it holds when the next life has caught up."""
    plan = replace(_PLAN, db=str(folder / "crash.db"), starts=str(folder / "starts"), die_at=point, die_after=after)
    found = []
    for now in (plan, replace(plan, life=1, die_at=None)):
        ended = nursery.live(now.save(folder / "plan.json"))
        assert ended.killed == (now is plan)
        history = History()
        for event in ended.events:
            history.take(event)
        read_out(history, Path(plan.db), Path(plan.starts))
        found.append(history)
    return found[0], found[1]


def _first_ticks(history: History) -> dict[str, int]:
    """Return when each interval was defined: that is its first tick."""
    return {state.name: state.anchor_us for state in history.crons.log if state.change == "insert"}


@pytest.mark.parametrize("point", ["cron.before", "cron.runs_written", "cron.moved", "turn.before_commit"])
def test_k11_a_tick_that_was_not_committed_is_settled_after_the_restart(
    point: str, tmp_path: Path, nursery: Nursery
) -> None:
    """Nothing of it is there; then its policy applies: under `all` it runs, once; every other one is accounted for."""
    dead, alive = _die(tmp_path, nursery, point, _COMMITS if point.startswith("turn") else 1)
    assert dead.crons.runs == []
    assert dead.crons.skips == []
    assert {state.change for state in dead.crons.log} == {"insert"}
    assert check(alive) == []
    first_us = _first_ticks(dead)["all"]
    ran = {(run.cron, run.tick_us): run.state for run in alive.crons.runs}
    dropped = [skip.reason for skip in alive.crons.skips if skip.cron == "all" and skip.first_us == first_us]
    assert (ran.get(("all", first_us)), dropped) in (("success", []), (None, ["cap"]))  # the restart may be slow


@pytest.mark.parametrize("point", ["turn.committed", "turn.replied"])
def test_k12_runs_that_were_committed_with_their_watermark_run_once(
    point: str, tmp_path: Path, nursery: Nursery
) -> None:
    """Each has its row, its cron is past it, and nothing has started; then each one runs, and none is there twice."""
    dead, alive = _die(tmp_path, nursery, point, _COMMITS)
    upto_us = {state.name: state.watermark_us for state in dead.crons.log}
    # How many, and whether of the first ticks or of newer ones: that is up to how long the start took.
    assert dead.crons.runs != []
    assert {run.state for run in dead.crons.runs} == {"pending"}
    assert all(upto_us[run.cron] >= (run.tick_us or 0) for run in dead.crons.runs)
    assert (dead.crons.effects, dead.crons.starts) == ([], [])
    assert check(alive) == []
    state = {run.id: run.state for run in alive.crons.runs}
    assert {state[run.id] for run in dead.crons.runs} == {"success"}
    assert max(Counter((run.cron, run.tick_us) for run in alive.crons.runs).values()) == 1


@pytest.mark.parametrize("point", ["manifest.staged", "manifest.activated", "cron.stored"])
def test_k11_a_manifest_that_was_not_committed_is_activated_by_the_next_start(
    point: str, tmp_path: Path, nursery: Nursery
) -> None:
    """All of its definitions, or none."""
    dead, alive = _die(tmp_path, nursery, point, 1)
    assert dead.crons.log == []
    assert check(alive) == []
    assert _first_ticks(alive).keys() >= _INTERVALS
