"""Gates: what they let through, in any order of starts, ends, changes of limit, restarts and steps of the clock."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.gates import Gates, RateGate, Slots
from actor_scheduler.queues import SLOTS, Rate, Routing
from actor_scheduler.settings import Settings
from actor_scheduler.store.base import Found, Set

ROUTING = Routing(
    {"f": "fn:f", "g": "rate:g"},
    {"pool:p": ("pool:p",), "fn:f": ("pool:p", "fn:f"), "rate:g": ("pool:p", "rate:g")},
    {"pool:p": 3, "fn:f": 2, "rate:g": Rate(2, 10)},
)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(0, 3)),
        st.tuples(st.just("pass"), st.integers(0, 15)),
        st.tuples(st.just("step back"), st.integers(1, 40)),
        st.tuples(st.just("restart"), st.integers(0, 5)),
    ),
    max_size=40,
)


@given(starts=st.integers(1, 4), period_us=st.integers(1, 12), moves=MOVES)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_no_span_of_a_period_sees_more_than_its_starts(
    starts: int, period_us: int, moves: list[tuple[str, int]]
) -> None:
    """In time that really passed, whatever the clock says meanwhile, and over restarts."""
    rate = Rate(starts, period_us)
    gate = RateGate(rate)
    now_us, passed_us = 1000, 0
    wall: list[int] = []  # what the store keeps: by the clock
    really: list[int] = []
    for what, amount in moves:
        match what:
            case "start":
                for _ in range(amount):
                    if gate.room(now_us) > 0:
                        gate.started(now_us)
                        wall.append(now_us)
                        really.append(passed_us)
            case "pass":
                now_us, passed_us = now_us + amount, passed_us + amount
            case "step back":
                now_us -= amount
            case "restart":
                now_us, passed_us = now_us + amount, passed_us + amount
                gate = RateGate(rate, [at_us for at_us in wall if at_us > now_us - period_us])
    assert all(later - first >= period_us for first, later in zip(really, really[starts:], strict=False))


@given(starts=st.integers(1, 4), period_us=st.integers(1, 12), gaps=st.lists(st.integers(0, 6), max_size=30))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_a_shut_rate_says_when_it_opens(starts: int, period_us: int, gaps: list[int]) -> None:
    """Not a moment before, and at that moment: an alarm set for it neither spins nor sleeps over it."""
    gate = RateGate(Rate(starts, period_us))
    now_us = 0
    for gap in gaps:
        now_us += gap
        if gate.room(now_us) > 0:
            gate.started(now_us)
            continue
        opens_us = gate.opens_at_us()
        assert opens_us is not None
        assert opens_us > now_us
        assert gate.room(opens_us - 1) == 0
        assert gate.room(opens_us) > 0
        now_us = opens_us


def test_a_clock_set_back_holds_a_rate_for_one_period_at_most() -> None:
    """However far: starts that lie ahead now count as made now, so the gate opens a period later."""
    gate = RateGate(Rate(2, 10), [1_000_000, 1_000_001])
    assert gate.room(5) == 0
    assert gate.opens_at_us() == 15
    assert [gate.room(at_us) for at_us in (14, 15)] == [0, 2]


def test_a_rate_that_let_too_much_through_opens_when_enough_is_past() -> None:
    """With more starts than it allows, the one in the way is not the oldest."""
    gate = RateGate(Rate(2, 10))
    for at_us in (0, 1, 2, 3):
        gate.started(at_us)
    assert gate.room(9) == -2
    assert gate.opens_at_us() == 12
    assert [gate.room(at_us) for at_us in (10, 11, 12, 13)] == [-1, 0, 1, 2]


def test_a_lowered_limit_lets_nothing_through_until_enough_have_ended() -> None:
    """Those that run go on: the count must stay theirs."""
    gates = Gates(ROUTING, 100, {})
    for _ in range(3):
        gates.started("pool:p", 0)
    gates.set_limit("pool:p", 1)
    assert [gates.room(0).of("pool:p", 9), gates.used("pool:p")] == [0, 3]
    for left in (2, 1, 0):
        assert gates.opens_at_us("pool:p", 0) is None
        gates.ended("pool:p")
        assert gates.used("pool:p") == left
    assert (gates.room(0).of("pool:p", 9), gates.opens_at_us("pool:p", 7)) == (1, 7)


def test_a_start_counts_in_every_gate_on_its_way() -> None:
    """The app's slots, the pool, and the function's own limits; mutations pass none; an unknown queue, the slots."""
    gates = Gates(ROUTING, 5, {})
    gates.started("fn:f#9", 0)
    gates.started("rate:g", 0)
    gates.started("action", 0)
    gates.started("mutation", 0)
    gates.started("pool:nobody", 0)
    used = {name: gate.used for name, gate in gates._gates.items() if isinstance(gate, Slots)}
    assert used == {SLOTS: 4, "pool:p": 2, "fn:f": 1}
    room = gates.room(0)
    assert [room.of(queue, 99) for queue in ("fn:f", "rate:g", "pool:p", "action", "mutation")] == [1, 1, 1, 1, 99]
    room.spend("fn:f", 1)
    assert [room.of(queue, 99) for queue in ("fn:f", "rate:g", "pool:p", "action", "mutation")] == [0, 0, 0, 0, 99]
    assert gates.room(0).of("fn:f", 99) == 1
    gates.paused = True
    assert [gates.room(0).of(queue, 9) for queue in ("mutation", "action")] == [0, 0]
    assert gates.opens_at_us("mutation", 0) is None


def test_the_last_gate_to_open_decides() -> None:
    """A queue behind a rate and a pool opens when both do; only what time opens has a moment."""
    gates = Gates(ROUTING, 5, {"rate:g": [0, 5]})
    assert gates.opens_at_us("rate:g", 6) == 10
    for _ in range(3):
        gates.started("pool:p", 6)
    assert gates.opens_at_us("rate:g", 6) is None
    assert gates.opens_at_us("action", 6) == 6


# ------------------------------------------------------------------ what operators set


def test_settings_that_do_not_fit_are_left_aside() -> None:
    """Whatever stands in the file, the boot goes on: only a pool's limit in its range is one."""
    gates = Gates(ROUTING, 5, {})
    settings = Settings(ROUTING)
    found = {"pool:p": 7, "rate:g": 3, "fn:f": 9, "pool:gone": 1, "slots": 0, "paused": 5, "x": "y"}
    settings.begin(Found(settings=found), gates)
    assert settings.paused is None
    assert [tuple(pool) for pool in settings.pools()] == [("p", 7, 0)]
    for wrong in (-1, True, "2", 10**9, None, 1.5):
        settings.begin(Found(settings={"pool:p": wrong}), gates)
        assert [tuple(pool) for pool in settings.pools()] == [("p", 3, 0)]
        assert gates.room(0).of("pool:p", 9) == 3


def test_what_the_file_says_after_a_reopen_holds() -> None:
    """A change whose commit was of unknown outcome may be undone: limits and pause go back to what is durable."""
    gates = Gates(ROUTING, 9, {})
    settings = Settings(ROUTING)
    settings.begin(Found(), gates)
    settings.apply(Set("pool:p", 0))
    settings.apply(Set("paused", "why"))
    settings.begin(Found(), gates)
    assert (gates.room(0).of("pool:p", 9), settings.paused, gates.paused) == (3, None, False)
    settings.begin(Found(settings={"pool:p": 1, "paused": ""}), gates)
    assert (gates.room(0).of("pool:p", 9), settings.paused, gates.paused) == (0, "", True)
    gates.paused = False
    assert gates.room(0).of("pool:p", 9) == 1


def test_starts_before_a_boot_are_taken_in_any_order() -> None:
    """The newest that matter are kept, in order."""
    gate = RateGate(Rate(3, 10), [7, 1, 9, 3, 5])
    assert all(first <= second for first, second in pairwise(gate._starts))
    assert [gate.room(at_us) for at_us in (9, 15, 17, 19)] == [0, 1, 2, 3]
