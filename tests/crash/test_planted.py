"""The crash test can fail: bugs planted in the children are found, and without them the same kills find nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.crash.campaign import Kill, first_plan, run_series
from tests.crash.checker import Rule
from tests.crash.lives import Nursery
from tests.crash.planted import PLANTS


@dataclass(frozen=True)
class Hunt:
    """A few kills that bring a bug to light, and the rules of which at least one must say so."""

    rules: frozenset[Rule]
    kills: tuple[tuple[str | None, int], ...]
    only: str | None = None  # one kind of call
    workers: int = 4
    to_the_end: bool = False  # the last life, left to finish, is wrong as well
    rich: bool = False
    crons: bool = False


def _hunt(*rules: Rule, at: str | None, after: tuple[int, ...], **more: object) -> Hunt:
    return Hunt(frozenset(rules), tuple((at, reach) for reach in after), **more)  # type: ignore[arg-type]


_HUNTS = {
    "second_transaction": _hunt(
        Rule.DOUBLED, Rule.SPLIT, at="mutation.completion_written", after=(1, 2, 3, 4, 5, 6, 7, 8)
    ),
    "reply_before_commit": _hunt(Rule.LOST, at="turn.before_begin", after=(4, 6, 8, 10, 12)),
    "actions_run_again": _hunt(Rule.STARTED_TWICE, at="action.body_done", after=(1, 2, 3, 4, 5, 6)),
    "actions_forgotten": _hunt(Rule.UNFINISHED, at="action.body_done", after=(1, 2, 3), to_the_end=True),
    "numbers_reused": _hunt(
        Rule.NUMBER_REUSED, at="turn.before_begin", after=(2, 3, 4, 5, 6, 2, 3, 4, 5, 6, 3, 4), only="live", workers=1
    ),
    "half_rollback": _hunt(Rule.SPLIT, Rule.REFUSED_EXISTS, at="turn.replied", after=(7, 8, 9)),
    "cancel_in_memory": _hunt(Rule.CANCELED_RAN, at=None, after=(60, 70, 80, 90)),
    "resends_forgotten": _hunt(Rule.IDEMPOTENCY, at="turn.replied", after=(4, 5, 6, 7, 8, 9)),
    "clock_ahead": _hunt(Rule.EARLY, at="turn.replied", after=(8, 9)),
    "batch_in_pieces": _hunt(Rule.PARTIAL, at="turn.committed", after=(5, 6, 7, 8, 9), only="many"),
    "lanes_at_once": _hunt(Rule.LANE, at=None, after=(60, 70, 80, 90, 110, 130, 160, 200), rich=True),
    "attempts_not_counted": _hunt(
        Rule.STARTED_TWICE, Rule.ATTEMPTS, at=None, after=(70, 80, 90, 110, 130, 160), rich=True
    ),
    "setting_in_memory": _hunt(Rule.SETTING, at="turn.replied", after=(6, 7, 8), only="pool", rich=True),
    "watermark_in_second_transaction": _hunt(
        Rule.TICK_TWICE, at="cron.moved", after=(2, 4, 6, 8, 10), only="get", crons=True
    ),
    "runs_in_second_transaction": _hunt(Rule.TICK_LOST, at="cron.runs_written", after=(2, 3, 4, 5), crons=True),
    "ticks_not_unique": _hunt(Rule.TICK_TWICE, Rule.DOUBLED, at="turn.replied", after=(7, 8, 9), crons=True),
    "skips_forgotten": _hunt(Rule.TICK_LOST, at="turn.replied", after=(7, 8, 9), crons=True),
    "crons_in_memory": _hunt(Rule.CRON_STOPPED, at="turn.replied", after=(7, 8, 9), crons=True, to_the_end=True),
    "old_definitions_stay": _hunt(Rule.CRON_GHOST, at="turn.replied", after=(3,) * 9, crons=True, to_the_end=True),
    "no_pause": _hunt(Rule.EARLY, at=None, after=(70, 80, 90, 110, 130, 160), rich=True),
}
_GIVE_UP_SECONDS = 0.5  # what the last life of a bug that forgets jobs waits for them


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One nursery for all the hunts: what is planted is planted in a forked child, and dies with it."""
    with Nursery(tmp_path_factory.mktemp("planted") / "log") as nursery:
        yield nursery


def _found(hunt: Hunt, planted: str | None, folder: Path, nursery: Nursery) -> set[Rule]:
    honest = replace(
        first_plan(folder, 2), rich=hunt.rich, only=hunt.only, workers=hunt.workers, calls=10,
        manifest=0 if hunt.crons else None,
    )  # fmt: skip
    wrong = replace(honest, planted=planted)
    last = replace(wrong, finish_within_s=_GIVE_UP_SECONDS) if planted and hunt.to_the_end else honest
    report = run_series([Kill(point, after) for point, after in hunt.kills], wrong, nursery, last=last)
    assert report.killed >= len(hunt.kills) // 2
    return {violation.rule for _, violation in report.violations}


def test_every_planted_bug_is_hunted() -> None:
    """A bug that nobody looks for shows nothing."""
    assert _HUNTS.keys() == PLANTS.keys()


@pytest.mark.parametrize("name", _HUNTS)
def test_a_planted_bug_is_found(name: str, tmp_path: Path, nursery: Nursery) -> None:
    """The checker names the promise that this bug breaks, within a few kills."""
    assert _found(_HUNTS[name], name, tmp_path, nursery) & _HUNTS[name].rules


@pytest.mark.parametrize("name", _HUNTS)
def test_without_its_bug_the_same_hunt_finds_nothing(name: str, tmp_path: Path, nursery: Nursery) -> None:
    """What the hunts find is the bug, not the way they are made."""
    assert _found(_HUNTS[name], None, tmp_path, nursery) == set()
