"""One file, one owner: real processes race for it, die over it, freeze on it and fork from it.

OWNER_SEED and OWNER_RACES choose another run; `python -m tests.owner --races 500 --seed 1` is the long one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.owner.races import Report, Track, run, track

SEED = int(os.environ.get("OWNER_SEED", "1"))
RACES = int(os.environ.get("OWNER_RACES", "50"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The campaign, run once for all the tests here."""
    return run(SEED, RACES, tmp_path_factory.mktemp("owner"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Track]:
    """One track for the single cases."""
    with track(tmp_path_factory.mktemp("track")) as here:
        yield here


@pytest.fixture
def here(shared: Track) -> Track:
    """The track, without a file."""
    shared.clear()
    return shared


def test_m1_every_race_has_exactly_one_owner_at_a_time(report: Report) -> None:
    """Of two to four processes one owns the file; the others are refused, or wait and have it one after the other."""
    assert report.wrong == [], f"OWNER_SEED={SEED} OWNER_RACES={RACES}\n{report.text()}"


@pytest.mark.parametrize("what", ["refused", "owners", "owners in turn", "owners that died"])
def test_m1_the_races_are_races(report: Report, what: str) -> None:
    """Somebody was refused, and somebody had to wait for one that died."""
    assert report.counts[what] > 0, report.text()


def test_m1_a_file_that_four_processes_create_at_once_is_owned_by_one(here: Track) -> None:
    """Whoever finds that another was quicker to make the file waits for its turn, or is refused for the lock."""
    for _ in range(8):
        here.clear()
        with here.line_up(["stays"] * 4) as racers:
            said = sorted(tuple(racer.until("owns", "refused")[2:3]) for racer in racers)
        assert said == [(), *[("DatabaseLocked",)] * 3]


def test_m2_a_successor_has_the_file_once_its_owner_is_killed(here: Track) -> None:
    """It waits; SIGKILL of the owner is all it waits for, and what was acknowledged is there."""
    with here.line_up(["stays"]) as [owner]:
        owner.until("waits")
        with here.line_up(["leaves"], beside=1, patience_s=60) as [successor]:
            assert not successor.has_said_anything()
            owner.send(signal.SIGKILL)
            assert [what[0] for what in successor.everything()] == ["owns", "wrote", "lets go", "left"]
    assert here.entries() == [owner.name, successor.name]


def test_m2_owners_that_are_killed_one_after_the_other_lose_nothing(here: Track) -> None:
    """Four processes, each killed by SIGKILL as owner: all had the file, and all they were told is in it."""
    with here.line_up(["dies"] * 4, patience_s=60) as racers:
        for racer in racers:
            assert "wrote" in [what[0] for what in racer.everything()]
        assert [racer.end() for racer in racers] == [-signal.SIGKILL] * 4
    assert sorted(here.entries()) == sorted(racer.name for racer in racers)


def test_m3_a_frozen_owner_still_owns_the_file_and_goes_on_when_it_thaws(here: Track) -> None:
    """SIGSTOP, as a paused machine: nobody takes over behind its back, so it may go on where it stood."""
    with here.line_up(["stays"]) as [owner]:
        owner.until("waits")
        owner.send(signal.SIGSTOP)
        for patience_s in (0.0, 0.2):
            with here.line_up(["leaves"] * 3, beside=1, patience_s=patience_s) as others:
                for other in others:
                    _, _, error, text = other.until("refused", "owns")
                    assert error == "DatabaseLocked"
                    assert f"pid {owner.pid}" in text
        owner.send(signal.SIGCONT)
        owner.send(signal.SIGUSR1)
        assert owner.until("wrote")[2] == 2
        owner.send(signal.SIGTERM)
        assert owner.everything()[-1][0] == "left"
    assert here.entries() == [owner.name] * 2


def test_m3_a_frozen_owner_that_is_killed_is_succeeded(here: Track) -> None:
    """A process that is stopped can be killed, and the kernel gives the file up for it."""
    with here.line_up(["stays"]) as [owner]:
        owner.until("waits")
        owner.send(signal.SIGSTOP)
        with here.line_up(["leaves"], beside=1, patience_s=60) as [successor]:
            owner.send(signal.SIGKILL)
            assert successor.everything()[-1][0] == "left"
    assert here.entries() == [owner.name, successor.name]


def test_m4_a_fork_of_a_busy_owner_is_refused_everything_and_harms_nothing(here: Track) -> None:
    """Its children can neither call, schedule nor cancel, nor own the file; the parent goes on, and owns it still."""
    with here.line_up(["forks"]) as [parent]:
        said = []
        while (told := parent.until("child", "waits"))[0] == "child":
            said.append(tuple(told[2:4]))
        with here.line_up(["leaves"], beside=1) as [other]:
            assert other.until("refused", "owns")[2] == "DatabaseLocked"
        parent.send(signal.SIGTERM)
        assert parent.everything()[-1][0] == "left"
    assert set(said) == {
        ("live", "StoreUnavailable"), ("schedule", "StoreUnavailable"), ("cancel", "StoreUnavailable"),
        ("same app", "AlreadyStarted"), ("new app", "DatabaseLocked"), ("exit", "0"),
    }  # fmt: skip
    assert len(said) == 4 * 6
    assert here.entries() == [parent.name] * (1 + 4 * 20)
