"""Jitter as laws: within its span, before the next tick, the same in every process, and spread evenly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actor_scheduler.crons.jitter import jitter_us
from actor_scheduler.limits import SECOND_US

LAWS = settings(max_examples=200, deadline=None, derandomize=True, database=None)
ROOT = Path(__file__).parents[2]
MINUTE = 60 * SECOND_US
HOUR = 60 * MINUTE
TICK = 1_767_225_600_000_000  # 2026-01-01T00:00Z

names = st.text(max_size=40)
ticks = st.integers(0, 1 << 53)
spans = st.integers(0, 366 * 24 * HOUR)

# Pinned: a release that changes these moves the fire times of every cron that has jitter.
KNOWN = [
    (("digest", TICK, 10 * MINUTE, None), 353_861_582),
    (("digest", TICK + HOUR, 10 * MINUTE, TICK + 2 * HOUR), 331_657_792),
    (("täglich", TICK, HOUR, TICK + MINUTE), 24_585_116),
    (("\ud800", TICK, SECOND_US, None), 724_498),
]


@LAWS
@given(name=names, tick_us=ticks, jitter=spans, gap=st.none() | spans)
@example(name="", tick_us=0, jitter=1, gap=None)
@example(name="x", tick_us=0, jitter=9, gap=1)
def test_the_jitter_is_below_its_bound_and_the_next_tick(name: str, tick_us: int, jitter: int, gap: int | None) -> None:
    """From 0 up to, not including, the lesser of the jitter and the gap; 0 when either is nothing."""
    after_us = jitter_us(name, tick_us, jitter, None if gap is None else tick_us + gap)
    assert 0 <= after_us
    assert after_us < max(jitter if gap is None else min(jitter, gap), 1)


@LAWS
@given(
    name=names,
    start_us=ticks,
    gaps=st.lists(st.integers(1, HOUR), min_size=2, max_size=20),
    jitter=st.integers(0, 3 * HOUR),
)
def test_ticks_fire_in_their_order(name: str, start_us: int, gaps: list[int], jitter: int) -> None:
    """However large the jitter, each tick fires before the next tick is even due, so before that one fires."""
    at_us, last_us = start_us, -1
    for gap in gaps:
        fire_us = at_us + jitter_us(name, at_us, jitter, at_us + gap)
        assert last_us < at_us <= fire_us < at_us + gap
        last_us, at_us = fire_us, at_us + gap


def test_the_jitter_is_even() -> None:
    """Of 20,000 ticks of one cron, and of 20,000 crons at one tick, each of 20 equal parts of the span gets its share.

    The bound is five standard deviations (31) of a share of 1,000; the hash is fixed, so this passes always or never.
    """
    span = 7 * MINUTE
    for found in (
        [jitter_us("sweep", TICK + k * HOUR, span, None) for k in range(20_000)],
        [jitter_us(f"reminder-{k}", TICK, span, None) for k in range(20_000)],
    ):
        shares = [0] * 20
        for after_us in found:
            shares[after_us * 20 // span] += 1
        assert all(845 <= share <= 1_155 for share in shares), shares


def test_names_and_ticks_do_not_run_together() -> None:
    """A tick's digits and a name's are told apart: neighbouring pairs have jitters of their own."""
    pairs = [("1", 23), ("31", 2), ("", 231), ("1 23", 2), ("23", 1), ("3 1", 2)]
    assert len({jitter_us(name, tick_us, HOUR, None) for name, tick_us in pairs}) == len(pairs)


@pytest.mark.parametrize(("asked", "after_us"), KNOWN)
def test_the_jitter_is_what_it_was(asked: tuple[str, int, int, int | None], after_us: int) -> None:
    """Pinned values, one per kind of name and bound."""
    assert jitter_us(*asked) == after_us


def test_another_process_finds_the_same_jitter() -> None:
    """The hash is not Python's own, which differs from process to process."""
    code = f"from actor_scheduler.crons.jitter import jitter_us; print([jitter_us(*a) for a, _ in {KNOWN!r}])"
    for seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        assert told.stdout.decode().strip() == repr([after_us for _, after_us in KNOWN])
