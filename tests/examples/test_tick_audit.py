"""The demo's audit of recurring work has to see a tick that was lost, doubled, or misreported."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor_scheduler.crons.catchup import CatchUp, plan
from actor_scheduler.crons.schedule import Every
from examples.shop.report_ticks import CronEvidence, audit_cron, cron_table

SECOND = 1_000_000
FIRST = 1_790_000_000 * SECOND + 123_456


def text(tick_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=tick_us)).isoformat()


def noted(tick_us: int, skipped: int = 0) -> dict[str, Any]:
    return {"tick": text(tick_us), "occurrence_id": f"of {tick_us}", "skipped": skipped, "handled": 0}


def ran(tick_us: int) -> dict[str, Any]:
    return {"state": "success", "tick": text(tick_us), "first_tick": text(tick_us), "skipped": 0, "reason": None}


def dropped(first_us: int, last_us: int, count: int, reason: str = "cap") -> dict[str, Any]:
    return {"state": "skipped", "tick": text(last_us), "first_tick": text(first_us), "skipped": count, "reason": reason}


def tick(number: int) -> int:
    return FIRST + number * SECOND


def good_day() -> CronEvidence:
    """Ten ticks: down from the fourth to the seventh; of those four the two older ones were dropped."""
    numbers = [0, 1, 2, 5, 6, 7, 8, 9]
    return CronEvidence(
        "hours", "each runs", SECOND,
        opened=(FIRST - SECOND // 2, FIRST + SECOND // 2),
        until_us=tick(9) + SECOND // 2,
        noted=[noted(tick(number), 2 if number == 5 else 0) for number in numbers],
        runs=[*(ran(tick(number)) for number in numbers), dropped(tick(3), tick(4), 2)],
        down=[(tick(3) - 1, tick(6) + 1)],
        skipped_least=1,
    )  # fmt: skip


def complaints(seen: CronEvidence) -> set[str]:
    return {line.name for line in audit_cron(seen) if not line.holds}


def test_a_good_day_gives_its_figures_and_no_complaint() -> None:
    """Due, ran, caught up and skipped are what happened."""
    lines = audit_cron(good_day())
    assert complaints(good_day()) == set()
    assert [line.count for line in lines] == [10, 8, 2, 2, 0, 0, 0, 0, 2]
    assert "EXPECTED" not in cron_table(lines, good_day())


def test_a_tick_that_is_still_under_way_is_left_out() -> None:
    """What is due after the moment of the audit is nobody's fault yet, and a note of it no complaint."""
    day = good_day()
    assert complaints(replace(day, until_us=tick(8))) == set()
    late = replace(day, noted=[*day.noted, noted(tick(10))])
    assert complaints(late) == set()


@pytest.mark.parametrize("number", [0, 1, 5, 9])
def test_a_lost_tick_is_seen(number: int) -> None:
    """A tick that neither ran nor was skipped is unaccounted for, the first and the last one included."""
    day = good_day()
    lost = replace(
        day,
        noted=[row for row in day.noted if row["tick"] != text(tick(number))],
        runs=[row for row in day.runs if row["first_tick"] != text(tick(number))],
    )
    assert "unaccounted for" in complaints(lost)


def test_nothing_at_all_is_seen() -> None:
    """Without a single tick all of them are unaccounted for."""
    nothing = replace(good_day(), noted=[], runs=[])
    assert {"unaccounted for", "caught up after a kill", "skipped with a reason"} <= complaints(nothing)


@pytest.mark.parametrize(
    ("complaint", "fault"),
    [
        ("run twice", {"noted": [noted(tick(7))]}),
        ("run twice", {"noted": [{**noted(tick(7)), "occurrence_id": "another"}]}),
        ("run twice", {"noted": [noted(tick(3))]}),  # it is skipped, too
        ("run twice", {"runs": [dropped(tick(7), tick(7), 1)]}),
        ("run twice", {"runs": [dropped(tick(4), tick(4), 1)]}),
        ("off schedule", {"noted": [noted(tick(7) + 1)]}),
        ("off schedule", {"noted": [noted(tick(-2))]}),
        ("off schedule", {"runs": [dropped(tick(2) + 1, tick(2) + 1, 1)]}),
        ("logs differ", {"noted": [noted(tick(7) + 1)]}),
        ("logs differ", {"runs": [ran(tick(7))]}),
        ("skips told to a run", {"noted": [noted(tick(7), 1)]}),
    ],
)
def test_what_is_there_too_often_or_wrongly_is_seen(complaint: str, fault: dict[str, list[Any]]) -> None:
    """A record that should not be there is a complaint by name."""
    day = good_day()
    changed: dict[str, Any] = {name: [*getattr(day, name), *rows] for name, rows in fault.items()}
    assert complaint in complaints(replace(day, **changed))


@pytest.mark.parametrize(
    ("complaint", "runs"),
    [
        ("off schedule", [dropped(tick(3), tick(4), 3)]),  # it says three, and holds two
        ("unaccounted for", [dropped(tick(3), tick(3), 1)]),
        ("unaccounted for", []),
        ("skips told to a run", []),
        ("skipped with a reason", []),
    ],
)
def test_a_wrong_account_of_skipped_ticks_is_seen(complaint: str, runs: list[Any]) -> None:
    """A stretch that is missing, too short, or says another number than it holds."""
    day = good_day()
    assert complaint in complaints(replace(day, runs=[row for row in day.runs if row["state"] != "skipped"] + runs))


def test_two_ticks_under_one_occurrence_id_are_seen() -> None:
    """The id is what an outside call would be made under: two ticks may not share it."""
    day = good_day()
    shared = [{**row, "occurrence_id": "the same"} for row in day.noted[:2]]
    assert complaints(replace(day, noted=[*shared, *day.noted[2:]])) == {"run twice"}


def test_a_day_without_a_missed_tick_is_no_demo() -> None:
    """Where ticks fell due while the shop was down, one at least has to be caught up."""
    day = good_day()
    never = [row for row in day.noted if row["tick"] not in (text(tick(5)), text(tick(6)))]
    assert "caught up after a kill" in complaints(replace(day, noted=never))


@given(
    missed=st.sampled_from(["latest", "all", "skip"]),
    cap=st.integers(1, 4),
    stops=st.lists(st.integers(1, 12 * SECOND), min_size=1, max_size=8),
    lost=st.integers(0, 200),
)
def test_what_the_planner_plans_is_a_good_day_until_a_tick_is_taken_out(
    missed: Any, cap: int, stops: list[int], lost: int
) -> None:
    """Whatever the policy and the outages, the planner's own account has no complaint; one tick less has."""
    ticks, rule = Every(seconds=1).ticks(FIRST), CatchUp(missed, cap, None, "allow")
    at_us, told, notes, runs = FIRST - 1, 0, [], []
    for span_us in stops:
        upto_us = at_us + span_us
        newest_us = ticks.latest_us(upto_us)
        late_us = 0 if newest_us is None else upto_us - newest_us
        planned = plan(ticks, rule, after_us=at_us, upto_us=upto_us, late_us=late_us, unfinished=0, skipped=told)
        notes += [noted(run.tick_us, run.skipped) for run in planned.runs]
        runs += [ran(run.tick_us) for run in planned.runs]
        runs += [dropped(drop.first_us, drop.last_us, drop.count, drop.reason) for drop in planned.drops]
        at_us, told = upto_us, planned.skipped
    day = CronEvidence("any", "", SECOND, (FIRST - 1, FIRST), at_us, notes, runs, [])
    assert complaints(day) == set()
    if notes:
        gone = notes[lost % len(notes)]["tick"]
        less = replace(
            day,
            noted=[row for row in notes if row["tick"] != gone],
            runs=[row for row in runs if row["state"] == "skipped" or row["tick"] != gone],
        )
        assert "unaccounted for" in complaints(less)
