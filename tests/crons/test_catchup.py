"""Catch-up as laws: every due tick runs or is dropped for a reason, once, within the caps, at the cost of the caps."""

from __future__ import annotations

from bisect import bisect_right
from itertools import groupby, pairwise
from typing import Any, get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actor_scheduler.crons.catchup import CatchUp, Drop, MissedTicks, Overlap, Plan, Run, SkipReason, drop_all, plan
from actor_scheduler.crons.schedule import Cron, Every
from actor_scheduler.limits import CATCH_UP_TICKS_MAX, MISSED_AFTER_US, SECOND_US

LAWS = settings(max_examples=150, deadline=None, derandomize=True, database=None)
HALF = SECOND_US // 2
MINUTE = 60 * SECOND_US
HOUR = 60 * MINUTE
DAY = 24 * HOUR
YEAR = 365 * DAY


class Listed:
    """The ticks of a sorted list."""

    def __init__(self, *ticks: int) -> None:
        self.all = sorted(set(ticks))

    def __repr__(self) -> str:
        return f"Listed{tuple(self.all)}"

    def next_us(self, after_us: int) -> int | None:
        at = bisect_right(self.all, after_us)
        return self.all[at] if at < len(self.all) else None

    def latest_us(self, at_us: int) -> int | None:
        at = bisect_right(self.all, at_us)
        return self.all[at - 1] if at else None

    def count(self, after_us: int, upto_us: int) -> int:
        return len(self.between(after_us, upto_us))

    def between(self, after_us: int, upto_us: int) -> list[int]:
        return self.all[bisect_right(self.all, after_us) : bisect_right(self.all, upto_us)]


class Stepped:
    """The ticks of an interval, by arithmetic; counts the calls it gets."""

    def __init__(self, anchor_us: int, every_us: int) -> None:
        self.anchor_us, self.every_us = anchor_us, every_us
        self.calls = {"next_us": 0, "latest_us": 0, "count": 0}

    def __repr__(self) -> str:
        return f"Stepped({self.anchor_us}, {self.every_us})"

    def upto(self, at_us: int) -> int:
        return max((at_us - self.anchor_us) // self.every_us + 1, 0)

    def next_us(self, after_us: int) -> int | None:
        self.calls["next_us"] += 1
        return self.anchor_us + self.upto(after_us) * self.every_us

    def latest_us(self, at_us: int) -> int | None:
        self.calls["latest_us"] += 1
        ticks = self.upto(at_us)
        return self.anchor_us + (ticks - 1) * self.every_us if ticks else None

    def count(self, after_us: int, upto_us: int) -> int:
        self.calls["count"] += 1
        return self.upto(upto_us) - self.upto(after_us)

    def between(self, after_us: int, upto_us: int) -> list[int]:
        return [self.anchor_us + k * self.every_us for k in range(self.upto(after_us), self.upto(upto_us))]


# Half seconds, so that ticks, ages and lateness often meet exactly; outages of some minutes.
moments = st.integers(0, 600).map(lambda halves: halves * HALF)
tick_sets = st.one_of(
    st.lists(moments, max_size=30).map(lambda ticks: Listed(*ticks)),
    st.builds(Stepped, moments, st.integers(2, 200).map(lambda halves: halves * HALF)),
)
rules = st.builds(
    CatchUp,
    st.sampled_from(get_args(MissedTicks)),
    st.integers(1, 12),
    st.none() | moments | st.just(48 * HOUR),
    st.sampled_from(get_args(Overlap)),
)
lateness = st.one_of(st.sampled_from([0, 1, HALF, MISSED_AFTER_US, MISSED_AFTER_US + 1]), moments)
unfinished_runs = st.just(0) | st.integers(0, 14)


@st.composite
def asking(draw: st.DrawFn) -> dict[str, Any]:
    """Return what a plan is asked for; mostly of a stretch that is not empty."""
    after_us, upto_us = draw(st.tuples(moments, moments))
    if draw(st.integers(0, 9)):
        after_us, upto_us = sorted((after_us, upto_us))
    return {
        "after_us": after_us,
        "upto_us": upto_us,
        "late_us": draw(lateness),
        "unfinished": draw(unfinished_runs),
        "skipped": draw(st.integers(0, 50)),
        "paused": draw(st.booleans()),
    }


asked = asking()


def verdicts(due: list[int], rule: CatchUp, late_us: int, unfinished: int, paused: bool) -> list[str]:
    """Return for each due tick, oldest first, `run` or why not: the written rules, one tick at a time."""
    now_us = due[-1] + late_us if due else 0
    said = []
    for newer, tick in zip(range(len(due) - 1, -1, -1), due, strict=True):  # how many due ticks are newer
        missed = newer > 0 or late_us > MISSED_AFTER_US
        if unfinished and rule.overlap == "skip":
            said.append("overlap")
        elif rule.missed == "latest":
            said.append("run" if newer == 0 else "paused" if paused else "policy")
        elif rule.missed == "skip":
            said.append("run" if not missed else "paused" if paused else "policy")
        elif missed and rule.max_age_us is not None and now_us - tick > rule.max_age_us:
            said.append("age")
        elif newer >= rule.max_ticks:
            said.append("cap")
        else:
            said.append("run")
    if rule.overlap == "queue":
        first = max(len(due) - max(rule.max_ticks - unfinished, 0), 0)
        said[:first] = ["cap" if verdict == "run" else verdict for verdict in said[:first]]
    return said


def covered(ticks: Any, made: Plan) -> list[tuple[int, str]]:
    """Return each tick a plan accounts for, with what became of it, sorted."""
    ran = [(run.tick_us, "run") for run in made.runs]
    dropped = [(tick, d.reason) for d in made.drops for tick in ticks.between(d.first_us - 1, d.last_us)]
    return sorted(ran + dropped)


# ------------------------------------------------------------------ one plan


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked)
def test_a_plan_is_what_the_rules_say_tick_by_tick(ticks: Any, rule: CatchUp, ask: dict[str, Any]) -> None:
    """V18 to V22: each tick has the fate that the rules, read one tick at a time over the whole outage, give it."""
    made = plan(ticks, rule, **ask)
    due = ticks.between(ask["after_us"], ask["upto_us"])
    said = verdicts(due, rule, ask["late_us"], ask["unfinished"], ask["paused"])
    assert covered(ticks, made) == list(zip(due, said, strict=True))
    stretches = [
        (reason, [tick for tick, _ in group]) for reason, group in groupby(covered(ticks, made), lambda c: c[1])
    ]
    assert list(made.drops) == [Drop(r, g[0], g[-1], len(g)) for r, g in stretches if r != "run"]


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked)
def test_S11_run_and_dropped_are_all_the_ticks_and_disjoint(ticks: Any, rule: CatchUp, ask: dict[str, Any]) -> None:
    """S11: fired ∪ skipped = all ticks in (after, upto]; runs ascend, drops are disjoint stretches older than any run."""
    made = plan(ticks, rule, **ask)
    assert [tick for tick, _ in covered(ticks, made)] == ticks.between(ask["after_us"], ask["upto_us"])
    ran = [run.tick_us for run in made.runs]
    assert all(a < b for a, b in pairwise(ran))
    assert all(a.last_us < b.first_us for a, b in pairwise(made.drops))
    for drop in made.drops:
        assert drop.first_us <= drop.last_us
        assert drop.count == len(ticks.between(drop.first_us - 1, drop.last_us)) > 0
        assert not ran or drop.last_us < ran[0]


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked)
def test_V20_V21_the_caps_are_respected_and_the_newest_kept(ticks: Any, rule: CatchUp, ask: dict[str, Any]) -> None:
    """V20, V21: at most max_ticks run, none missed is older than max_age; what runs is the newest of what is due."""
    made = plan(ticks, rule, **ask)
    due = ticks.between(ask["after_us"], ask["upto_us"])
    ran = [run.tick_us for run in made.runs]
    assert ran == due[len(due) - len(ran) :]
    assert len(ran) <= (rule.max_ticks if rule.missed == "all" else 1)
    if rule.missed == "all" and rule.max_age_us is not None and ran:
        spared = ran[-1] if ask["late_us"] <= MISSED_AFTER_US else None  # merely late
        oldest = due[-1] + ask["late_us"] - rule.max_age_us
        assert all(tick >= oldest for tick in ran if tick != spared)
    if rule.overlap == "queue":
        assert len(ran) + ask["unfinished"] <= max(rule.max_ticks, ask["unfinished"])
    if rule.overlap == "skip" and ask["unfinished"]:
        assert not ran


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked)
def test_V14_V22_the_skipped_are_counted_and_told_to_the_next_run(
    ticks: Any, rule: CatchUp, ask: dict[str, Any]
) -> None:
    """V14, V22: the first run is told of every tick dropped since the last one, by policy or caps; no count is lost."""
    made = plan(ticks, rule, **ask)
    dropped = ask["skipped"] + sum(drop.count for drop in made.drops)
    assert sum(run.skipped for run in made.runs) + made.skipped == dropped
    assert all(run.skipped == 0 for run in made.runs[1:])
    assert made.skipped == (0 if made.runs else dropped)


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked)
def test_V13_the_window_is_there_only_while_replaying_under_all(ticks: Any, rule: CatchUp, ask: dict[str, Any]) -> None:
    """V13: the window is the oldest and newest tick of a replay of missed ticks under `all`, the same for each run."""
    made = plan(ticks, rule, **ask)
    missed = len(made.runs) > 1 or ask["late_us"] > MISSED_AFTER_US
    span = (made.runs[0].tick_us, made.runs[-1].tick_us) if made.runs else None
    expected = span if rule.missed == "all" and missed else None
    assert {run.window for run in made.runs} <= {expected}


@LAWS
@given(
    ticks=tick_sets,
    rule=rules.map(lambda rule: rule._replace(overlap="allow")),
    ask=asked,
    late_us=st.integers(0, MISSED_AFTER_US),
)
def test_a_second_late_never_drops_the_newest(ticks: Any, rule: CatchUp, ask: dict[str, Any], late_us: int) -> None:
    """Merely late is not missed: up to a minute late the newest tick runs under every policy and every age."""
    made = plan(ticks, rule, **{**ask, "late_us": late_us})
    due = ticks.between(ask["after_us"], ask["upto_us"])
    assert [run.tick_us for run in made.runs[-1:]] == due[-1:]


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked)
def test_a_pause_changes_the_reason_only(ticks: Any, rule: CatchUp, ask: dict[str, Any]) -> None:
    """What the policy drops after a pause says `paused`; nothing else differs, and `policy` is never said."""
    plain, paused = (plan(ticks, rule, **{**ask, "paused": paused}) for paused in (False, True))
    assert "paused" not in {drop.reason for drop in plain.drops}
    renamed = tuple(d._replace(reason="paused") if d.reason == "policy" else d for d in plain.drops)
    assert paused == plain._replace(drops=renamed)


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked, other=st.integers(0, 14))
def test_allow_does_not_look_at_runs_that_have_not_ended(
    ticks: Any, rule: CatchUp, ask: dict[str, Any], other: int
) -> None:
    """Under overlap `allow` the number of unfinished runs has no effect; with none, `skip` has none either."""
    allow = plan(ticks, rule._replace(overlap="allow"), **ask)
    assert plan(ticks, rule._replace(overlap="allow"), **{**ask, "unfinished": other}) == allow
    assert plan(ticks, rule._replace(overlap="skip"), **{**ask, "unfinished": 0}) == allow


# ------------------------------------------------------------------ one plan after the other


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked)
def test_planning_again_gives_nothing(ticks: Any, rule: CatchUp, ask: dict[str, Any]) -> None:
    """Idempotence: from where a plan ended nothing is due, and what no run was told of stays."""
    made = plan(ticks, rule, **ask)
    again = {**ask, "after_us": max(ask["after_us"], ask["upto_us"]), "skipped": made.skipped}
    assert plan(ticks, rule, **again) == Plan((), (), made.skipped)


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked, back=st.integers(0, YEAR))
def test_a_plan_never_goes_backwards(ticks: Any, rule: CatchUp, ask: dict[str, Any], back: int) -> None:
    """C2: a clock set back, so that upto is not past what is settled, makes an empty plan."""
    behind = {**ask, "upto_us": ask["after_us"] - back}
    assert plan(ticks, rule, **behind) == Plan((), (), ask["skipped"])


@LAWS
@given(ticks=tick_sets, rule=rules, ask=asked, cut=moments, late_us=lateness)
def test_planning_in_two_steps_accounts_for_the_same_ticks(
    ticks: Any, rule: CatchUp, ask: dict[str, Any], cut: int, late_us: int
) -> None:
    """Split: (a, b] and then (b, c] settle the ticks of (a, c], each once; under `all` without bounds the same run."""
    after, cut, upto = sorted((ask["after_us"], cut, ask["upto_us"]))
    whole = plan(ticks, rule, **{**ask, "after_us": after, "upto_us": upto})
    one = plan(ticks, rule, **{**ask, "after_us": after, "upto_us": cut, "late_us": late_us})
    two = plan(ticks, rule, **{**ask, "after_us": cut, "upto_us": upto, "skipped": one.skipped})
    assert [tick for tick, _ in covered(ticks, one) + covered(ticks, two)] == [
        tick for tick, _ in covered(ticks, whole)
    ]

    every = CatchUp("all", CATCH_UP_TICKS_MAX, None, "allow")
    both = [
        run.tick_us
        for a, b in ((after, cut), (cut, upto))
        for run in plan(ticks, every, **{**ask, "after_us": a, "upto_us": b}).runs
    ]
    assert both == ticks.between(after, upto)


@LAWS
@given(
    ticks=tick_sets,
    rule=rules,
    wakes=st.lists(st.tuples(moments, lateness, unfinished_runs, st.booleans()), max_size=12),
)
def test_a_life_of_wakes_accounts_for_every_tick_once(
    ticks: Any, rule: CatchUp, wakes: list[tuple[int, int, int, bool]]
) -> None:
    """Over any wakes, some with the clock set back, each tick up to the watermark stands once in all the plans."""
    watermark, skipped, seen, told, dropped = -1, 0, [], 0, 0
    for upto, late_us, unfinished, paused in wakes:
        made = plan(
            ticks,
            rule,
            after_us=watermark,
            upto_us=upto,
            late_us=late_us,
            unfinished=unfinished,
            skipped=skipped,
            paused=paused,
        )
        watermark, skipped = max(watermark, upto), made.skipped
        seen += covered(ticks, made)
        told += sum(run.skipped for run in made.runs)
        dropped += sum(drop.count for drop in made.drops)
        assert seen == sorted(seen)
    assert [tick for tick, _ in seen] == ticks.between(-1, watermark)
    assert told + skipped == dropped


# ------------------------------------------------------------------ what it costs


@pytest.mark.parametrize("missed", get_args(MissedTicks))
@pytest.mark.parametrize("overlap", get_args(Overlap))
@pytest.mark.parametrize("max_ticks", [1, 100, CATCH_UP_TICKS_MAX])
@pytest.mark.parametrize("max_age_us", [None, 48 * HOUR, MINUTE])
@pytest.mark.parametrize("unfinished", [0, 7])
def test_C13_a_year_of_missed_seconds_costs_no_more_than_the_cap(
    missed: MissedTicks, overlap: Overlap, max_ticks: int, max_age_us: int | None, unfinished: int
) -> None:
    """C13: with 31.5 million ticks missed, the schedule is asked max_ticks times and a few more, and the plan is right."""
    ticks, rule = Stepped(0, SECOND_US), CatchUp(missed, max_ticks, max_age_us, overlap)
    late_us = 5 * MINUTE
    made = plan(ticks, rule, after_us=0, upto_us=YEAR, late_us=late_us, unfinished=unfinished, skipped=3)
    calls = dict(ticks.calls)
    assert calls["latest_us"] <= max_ticks + 3
    assert calls["next_us"] <= 2
    assert calls["count"] <= 2

    kept = 0 if missed == "skip" else 1
    if missed == "all":
        kept = max_ticks
        if max_age_us is not None:
            kept = min(kept, max(max_age_us - late_us, -SECOND_US) // SECOND_US + 1)
    if overlap == "queue":
        kept = min(kept, max(max_ticks - unfinished, 0))
    if overlap == "skip" and unfinished:
        kept = 0
    assert [run.tick_us for run in made.runs] == list(range(YEAR - (kept - 1) * SECOND_US, YEAR + 1, SECOND_US))
    lost = YEAR // SECOND_US - kept
    assert sum(drop.count for drop in made.drops) == lost
    assert [made.drops[0].first_us, made.drops[-1].last_us] == [SECOND_US, YEAR - kept * SECOND_US]
    assert (made.runs[0].skipped if kept else made.skipped) == lost + 3


@pytest.mark.parametrize("overlap", get_args(Overlap))
@pytest.mark.parametrize(("missed", "calls"), [("latest", 2), ("skip", 2), ("all", 3)])
def test_a_tick_on_time_asks_the_schedule_three_times_at_most(
    missed: MissedTicks, calls: int, overlap: Overlap
) -> None:
    """The ordinary case, one tick due and nothing missed, is the cheap one."""
    ticks, rule = Stepped(0, MINUTE), CatchUp(missed, overlap=overlap)
    made = plan(ticks, rule, after_us=MINUTE, upto_us=2 * MINUTE, late_us=40, unfinished=0)
    assert made == Plan((Run(2 * MINUTE),), (), 0)
    assert sum(ticks.calls.values()) == calls


# ------------------------------------------------------------------ examples


HOURLY = Stepped(0, HOUR)
AT_5 = {"after_us": HOUR, "upto_us": 5 * HOUR, "late_us": 10 * MINUTE}  # 2, 3, 4 and 5 are due; it is 5:10


@pytest.mark.parametrize(
    ("rule", "options", "runs", "drops"),
    [
        pytest.param(CatchUp(), {}, [(5, 3)], [("policy", 2, 4, 3)], id="V18: latest is the default"),
        pytest.param(CatchUp("latest", 1, 0), {}, [(5, 3)], [("policy", 2, 4, 3)], id="latest knows no caps"),
        pytest.param(CatchUp("all"), {}, [(2, 0), (3, 0), (4, 0), (5, 0)], [], id="V19: all replays every one"),
        pytest.param(CatchUp("all", 3), {}, [(3, 1), (4, 0), (5, 0)], [("cap", 2, 2, 1)], id="V20: the count cap"),
        pytest.param(CatchUp("all", 9, 90 * MINUTE), {}, [(4, 2), (5, 0)], [("age", 2, 3, 2)], id="V21: the age cap"),
        pytest.param(CatchUp("all", 9, 130 * MINUTE), {}, [(3, 1), (4, 0), (5, 0)], [("age", 2, 2, 1)], id="V21: just"),
        pytest.param(
            CatchUp("all", 1, 90 * MINUTE), {}, [(5, 3)], [("age", 2, 3, 2), ("cap", 4, 4, 1)], id="age, then count"
        ),
        pytest.param(CatchUp("all", 9, 9 * MINUTE), {}, [], [("age", 2, 5, 4)], id="all of them too old"),
        pytest.param(CatchUp("skip"), {}, [], [("policy", 2, 5, 4)], id="skip drops the missed"),
        pytest.param(CatchUp("skip"), {"late_us": MINUTE}, [(5, 3)], [("policy", 2, 4, 3)], id="skip: a minute late"),
        pytest.param(CatchUp("skip"), {"late_us": MINUTE + 1}, [], [("policy", 2, 5, 4)], id="skip: and no more"),
        pytest.param(CatchUp("skip"), {"paused": True}, [], [("paused", 2, 5, 4)], id="skip after a pause"),
        pytest.param(CatchUp(), {"paused": True}, [(5, 3)], [("paused", 2, 4, 3)], id="latest after a pause"),
        pytest.param(
            CatchUp("all", 1), {"paused": True}, [(5, 3)], [("cap", 2, 4, 3)], id="a cap after a pause is a cap"
        ),
        pytest.param(CatchUp("all"), {"unfinished": 1}, [], [("overlap", 2, 5, 4)], id="the last run goes on"),
        pytest.param(
            CatchUp("all", 3, None, "queue"), {"unfinished": 1}, [(4, 2), (5, 0)], [("cap", 2, 3, 2)], id="queue: room"
        ),
        pytest.param(CatchUp("all", 3, None, "queue"), {"unfinished": 4}, [], [("cap", 2, 5, 4)], id="queue: no room"),
        pytest.param(
            CatchUp("latest", 3, None, "queue"),
            {"unfinished": 3},
            [],
            [("policy", 2, 4, 3), ("cap", 5, 5, 1)],
            id="queue: no room for the latest",
        ),
        pytest.param(
            CatchUp("all", 9, None, "allow"), {"unfinished": 9}, [(2, 0), (3, 0), (4, 0), (5, 0)], [], id="allow"
        ),
    ],
)  # fmt: skip
def test_what_becomes_of_four_missed_hours(
    rule: CatchUp, options: dict[str, Any], runs: list[tuple[int, int]], drops: list[tuple[SkipReason, int, int, int]]
) -> None:
    """Down from 1:30 to 5:10, hourly: which hours run, how many each was told of, and why the others did not."""
    made = plan(HOURLY, rule, **{**AT_5, "unfinished": 0, **options})
    window = (runs[0][0] * HOUR, 5 * HOUR) if rule.missed == "all" and runs else None
    assert made.runs == tuple(Run(hour * HOUR, skipped, window) for hour, skipped in runs)
    assert made.drops == tuple(Drop(why, first * HOUR, last * HOUR, count) for why, first, last, count in drops)


def test_a_replay_is_of_missed_ticks() -> None:
    """Under `all` two due ticks are a replay; a single one is when it is over a minute late, not when merely late."""
    due = {"upto_us": 5 * HOUR, "unfinished": 0}
    late, missed = (
        plan(HOURLY, CatchUp("all"), after_us=4 * HOUR, late_us=late_us, **due) for late_us in (MINUTE, MINUTE + 1)
    )
    assert late.runs == (Run(5 * HOUR),)
    assert missed.runs == (Run(5 * HOUR, 0, (5 * HOUR, 5 * HOUR)),)
    two = plan(HOURLY, CatchUp("all"), after_us=3 * HOUR, late_us=0, **due)
    assert two.runs == (Run(4 * HOUR, 0, (4 * HOUR, 5 * HOUR)), Run(5 * HOUR, 0, (4 * HOUR, 5 * HOUR)))


def test_skipped_ticks_wait_for_a_run_to_be_told_to() -> None:
    """Three wakes with a run that goes on, then one without: the next run is told of all that were dropped."""
    skipped = 0
    for hour in (2, 3, 4):
        made = plan(
            HOURLY,
            CatchUp(),
            after_us=(hour - 1) * HOUR,
            upto_us=hour * HOUR,
            late_us=0,
            unfinished=1,
            skipped=skipped,
        )
        assert (made.runs, made.drops[0].reason, made.skipped) == ((), "overlap", hour - 1)
        skipped = made.skipped
    made = plan(HOURLY, CatchUp(), after_us=4 * HOUR, upto_us=5 * HOUR, late_us=0, unfinished=0, skipped=skipped)
    assert made == Plan((Run(5 * HOUR, 3),), (), 0)


# ------------------------------------------------------------------ with real schedules

SPRING = 1_774_746_000_000_000  # 2026-03-29 01:00 UTC: Paris goes from 2:00 to 3:00
AUTUMN = 1_792_890_000_000_000  # 2026-10-25 01:00 UTC: Paris goes from 3:00 back to 2:00
PARIS = [
    Cron(expr, tz="Europe/Paris")
    for expr in ("30 2 * * *", "*/20 * * * *", "0 */2 * * *", "15,45 1-3 * * *", "0 9 * * 1")
]
SCHEDULES = [*PARIS, Cron("*/7 * * * *"), Every(minutes=13), Every(hours=25)]


@LAWS
@given(
    schedule=st.sampled_from(SCHEDULES),
    change=st.sampled_from([SPRING, AUTUMN]),
    before=st.integers(0, 8 * 24 * 60),
    after=st.integers(0, 8 * 24 * 60),
    rule=rules,
    ask=asked,
)
def test_an_outage_over_a_clock_change_is_planned_like_any_other(
    schedule: Cron | Every, change: int, before: int, after: int, rule: CatchUp, ask: dict[str, Any]
) -> None:
    """A schedule that answers by search gives the plan of the list of its ticks, over a gap and over a fold."""
    ticks = schedule.ticks(change - DAY - 1)
    stretch = {"after_us": change - before * MINUTE, "upto_us": change + after * MINUTE}
    walked, tick_us = [], ticks.next_us(change - 30 * DAY)
    while tick_us is not None and tick_us <= change + 30 * DAY:
        walked.append(tick_us)
        tick_us = ticks.next_us(tick_us)
    assert plan(ticks, rule, **{**ask, **stretch}) == plan(Listed(*walked), rule, **{**ask, **stretch})


@pytest.mark.parametrize(
    "schedule", [Every(seconds=1), Cron("* * * * *"), Cron("* * * * *", tz="America/New_York")], ids=repr
)
@pytest.mark.parametrize("missed", get_args(MissedTicks))
def test_C13_a_year_without_the_app_is_accounted_for(schedule: Cron | Every, missed: MissedTicks) -> None:
    """C13: every second or every minute of a year, from real schedules: a hundred run at most, the others are counted."""
    every_us = SECOND_US if isinstance(schedule, Every) else MINUTE
    made = plan(
        schedule.ticks(0),
        CatchUp(missed),
        after_us=SPRING,
        upto_us=SPRING + YEAR + SECOND_US // 2,
        late_us=2 * MINUTE,
        unfinished=0,
    )
    assert len(made.runs) == {"latest": 1, "all": 100, "skip": 0}[missed]
    assert len(made.runs) + sum(drop.count for drop in made.drops) == YEAR // every_us


# ------------------------------------------------------------------ dropping a stretch


@LAWS
@given(ticks=tick_sets, after_us=moments, upto_us=moments, reason=st.sampled_from(get_args(SkipReason)))
@example(ticks=Listed(), after_us=0, upto_us=9, reason="disabled")
@example(ticks=Listed(20), after_us=0, upto_us=9, reason="disabled")
@example(ticks=Listed(5), after_us=5, upto_us=9, reason="disabled")
def test_drop_all_is_one_stretch_or_nothing(ticks: Any, after_us: int, upto_us: int, reason: SkipReason) -> None:
    """Every tick in (after, upto] and no other, under one reason; no row when there is none, or going backwards."""
    due = ticks.between(after_us, upto_us)
    expected = (Drop(reason, due[0], due[-1], len(due)),) if due else ()
    assert drop_all(ticks, after_us=after_us, upto_us=upto_us, reason=reason) == expected


def test_C13_dropping_a_year_asks_the_schedule_three_times() -> None:
    """C13: a stretch is counted, never walked."""
    ticks = Stepped(0, SECOND_US)
    stretch = drop_all(ticks, after_us=0, upto_us=YEAR, reason="disabled")
    assert stretch == (Drop("disabled", SECOND_US, YEAR, YEAR // SECOND_US),)
    assert sum(ticks.calls.values()) == 3
