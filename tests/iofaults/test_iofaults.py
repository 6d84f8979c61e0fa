"""I/O calls fail, one after the other: what was acknowledged is there, what was refused is not, and the app comes back.

IOFAULTS_SEED chooses other calls, IOFAULTS_STRIDE more or fewer; `make iofaults` fails every one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.shim.control import ROOT, environment

SEED = int(os.environ.get("IOFAULTS_SEED", "0"))
STRIDE = int(os.environ.get("IOFAULTS_STRIDE", "5"))


@dataclass(frozen=True)
class Outcome:
    """What a run of the engine said."""

    status: int
    text: str
    failed: dict[str, int]
    counts: dict[str, int]
    violations: list[list[Any]]

    @property
    def rules(self) -> set[str]:
        """The promises that were broken."""
        return {rule for _, _, rule, *_ in self.violations}


def engine(folder: Path, *argv: str) -> Outcome:
    """Run the engine in a process of its own, which has the shim."""
    figures = folder / "figures.json"
    command = [sys.executable, "-m", "tests.iofaults", "--json", str(figures), *argv]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=1800
    )
    assert figures.exists(), done.stdout + done.stderr
    read = json.loads(figures.read_text(encoding="utf-8"))
    return Outcome(done.returncode, done.stdout + done.stderr, read["failed"], read["counts"], read["violations"])


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Every scenario, every class of calls, each way of failing; every few calls. Run once for all the tests here."""
    folder = tmp_path_factory.mktemp("iofaults")
    return engine(folder, "--only", "database", "--stride", str(STRIDE), "--seed", str(SEED))


def test_no_failed_call_makes_a_false_answer_or_half_a_mutation(campaign: Outcome) -> None:
    """Acknowledged is there, refused is not, unknown is whole or absent; nobody hangs, or sees an error of sqlite3.

    When the disk is well again the app is, and all its work gets done; when it is not, the process ends clearly.
    """
    assert campaign.violations == [], campaign.text
    assert campaign.status == 0, campaign.text


@pytest.mark.parametrize("scenario", ["create", "schedule", "mutate", "catch_up", "shut_down", "cron"])
@pytest.mark.parametrize("calls", ["write", "sync"])
def test_d3_every_scenario_meets_failing_writes_and_syncs(campaign: Outcome, scenario: str, calls: str) -> None:
    """A fault that never struck shows nothing. EIO and ENOSPC; once, for a while, and for ever."""
    assert campaign.failed.get(f"database {scenario} {calls}", 0) > 0, campaign.text


@pytest.mark.parametrize("calls", ["open", "truncate", "unlink"])
def test_d3_every_other_class_of_calls_fails_somewhere(campaign: Outcome, calls: str) -> None:
    """Opening, cutting and removing files fail at starts, checkpoints and stops."""
    assert sum(count for what, count in campaign.failed.items() if what.endswith(calls)) > 0, campaign.text


@pytest.mark.parametrize("answer", ["answers: ack", "answers: refused", "answers: unknown", "starts refused"])
def test_d2_callers_meet_every_kind_of_answer(campaign: Outcome, answer: str) -> None:
    """A full disk refuses definitely, a failed commit leaves it open, and what is healthy acknowledges."""
    assert campaign.counts.get(answer, 0) > 0, campaign.text


def test_d7_side_files_that_fail_are_no_less_clear(tmp_path: Path) -> None:
    """The lock's file and the one that says who was running fail like any other: with one of our errors, or not."""
    found = engine(tmp_path, "--only", "side")
    assert found.failed
    assert found.violations == [], found.text


@pytest.mark.parametrize(
    ("wrong", "where", "rule"),
    [
        ("no_for_unknown", "database schedule sync EIO for_ever", "REFUSED_EXISTS"),
        ("yes_for_failed", "database schedule sync EIO", "LOST"),
        ("gives_up", "database schedule sync EIO outage", "UNHEALTHY"),
    ],
)
def test_d4_a_planted_bug_is_found(wrong: str, where: str, rule: str, tmp_path: Path) -> None:
    """A definite no for an unknown commit, a yes for a failed one, a store that is given up: each one shows."""
    found = engine(tmp_path, "--only", where, "--wrong", wrong)
    assert found.status == 1
    assert rule in found.rules, found.text
