"""Power cuts at every change of a file: nothing acknowledged is lost, nothing half-done stays, nothing is damaged.

POWERLOSS_SEED and POWERLOSS_IMAGES choose another run; `make powerloss` is the long one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.shim.control import ROOT, environment

SEED = int(os.environ.get("POWERLOSS_SEED", "1"))
IMAGES = int(os.environ.get("POWERLOSS_IMAGES", "5000"))


@dataclass(frozen=True)
class Outcome:
    """What a run of the engine said."""

    status: int
    text: str
    counts: dict[str, int]
    rules: set[str]


def engine(folder: Path, *argv: str) -> Outcome:
    """Run the engine in a process of its own, which has the shim."""
    figures = folder / "figures.json"
    command = [sys.executable, "-m", "tests.powerloss", "--json", str(figures), *argv]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False, timeout=1800
    )
    assert figures.exists(), done.stdout + done.stderr
    read = json.loads(figures.read_text(encoding="utf-8"))
    return Outcome(done.returncode, done.stdout, read["counts"], {rule for _, rule, _, _ in read["violations"]})


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The campaign, run once for all the tests here."""
    return engine(tmp_path_factory.mktemp("powerloss"), "--seed", str(SEED), "--images", str(IMAGES))


def test_d1_no_power_cut_loses_or_halves_or_damages_anything(campaign: Outcome) -> None:
    """FULL: every acknowledged call survives every cut. NORMAL: what survives is a state that was once committed."""
    assert (campaign.status, campaign.rules) == (0, set()), campaign.text


def test_d1_the_campaign_is_as_large_as_it_says(campaign: Outcome) -> None:
    """A cut with nothing unsynced shows little: each way of losing what was not synced must have its share."""
    assert campaign.counts["images"] >= IMAGES
    assert campaign.counts["images: NORMAL"] >= IMAGES // 20
    for cut in ("dropped", "reordered", "torn"):
        assert campaign.counts[f"images: {cut}"] >= IMAGES // 10, campaign.text
    assert campaign.counts["acknowledgements checked"] > IMAGES


def test_k12_no_power_cut_loses_or_doubles_a_tick(campaign: Outcome) -> None:
    """Runs, skips and watermarks of crons are in the images, and add up in each."""
    assert campaign.counts["ticks accounted for"] > IMAGES, campaign.text


@pytest.mark.parametrize("what", ["write", "sync", "truncate", "create", "unlink"])
def test_d1_every_kind_of_change_is_cut_at(campaign: Outcome, what: str) -> None:
    """Checkpoints, new logs and clean shutdowns are in it, not only commits."""
    assert campaign.counts[f"events: {what}"] > 0, campaign.text


def test_d4_a_failed_sync_that_loses_pages_loses_nothing_acknowledged(campaign: Outcome) -> None:
    """Some lives have one sync that fails, and loses for ever what it was to write (trap T2). No rule is relaxed."""
    assert campaign.counts["events: sync_failed"] > 0, campaign.text


def test_k17_recovery_itself_is_cut(campaign: Outcome) -> None:
    """Each series goes on living on what a cut left, and is cut again while it recovers; some run on to the end."""
    assert campaign.counts["lives begun on what a cut left"] > 0, campaign.text
    assert campaign.counts["images run on to the end"] > 0, campaign.text


@pytest.mark.parametrize(
    ("wrong", "rules"),
    [
        ("sync_lies", {"LOST"}),
        ("synchronous_off", {"LOST"}),
        ("reply_before_commit", {"LOST"}),
        ("second_transaction", {"EFFECT_BEFORE_END"}),
        ("watermark_in_second_transaction", {"GHOST"}),
    ],
)
def test_a_planted_bug_is_found(wrong: str, rules: set[str], tmp_path: Path) -> None:
    """A disk that lies, no syncs at all, an answer before its commit, a completion of its own: each one shows.

    So does a tick whose run is durable before its cron is past it.
    """
    found = engine(tmp_path, "--seed", "1", "--images", "600", "--wrong", wrong)
    assert found.status == 1
    assert rules <= found.rules, found.text
