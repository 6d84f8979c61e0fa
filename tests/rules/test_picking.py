"""Who is picked: priorities, the one fair pick in eight, gates, and that nobody waits for ever."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.dispatch import Dispatch
from actor_scheduler.gates import Gates, Room
from actor_scheduler.index import JobIndex, Window
from actor_scheduler.limits import FAIR_PICK
from actor_scheduler.model import Entry
from actor_scheduler.queues import PLAIN, Rate, Routing, priority_of
from actor_scheduler.store.base import Effects, Found, Refill, RunDue, TurnResult

PASSES = {"pool:p": ("pool:p",), "fn:f": ("pool:p", "fn:f"), "rate:r": ("rate:r",)}
ROUTING = Routing({}, PASSES, {"pool:p": 3, "fn:f": 1, "rate:r": Rate(2, 10)})
QUEUES = [
    "mutation",
    "mutation#5",
    "action",
    "action#5",
    "action#-5",
    "pool:p",
    "pool:p#5",
    "fn:f",
    "rate:r",
    "rate:r#-5",
]


def loaded(jobs: list[tuple[str, int]], index: JobIndex | None = None) -> JobIndex:
    """Return an index that holds these jobs, in order of acceptance, and knows that there are no others."""
    index = index or JobIndex()
    by_queue: dict[str, list[Entry]] = defaultdict(list)
    for seq, (queue, fire_at_us) in enumerate(jobs, 1):
        by_queue[queue].append(Entry(fire_at_us, seq))
    for queue, entries in by_queue.items():
        window = index.window(queue)
        window.refill(window.horizon, sorted(entries), complete=True)
    return index


def picked_by_hand(
    jobs: list[tuple[str, int]], now_us: int, most: int, slots: int, picks: int
) -> list[tuple[str, Entry]]:
    """Pick one after the other, looking at everything each time: what is said of priorities, word for word."""
    gates = Gates(ROUTING, slots, {})
    waiting = [
        (queue, Entry(fire_at_us, seq)) for seq, (queue, fire_at_us) in enumerate(jobs, 1) if fire_at_us <= now_us
    ]
    picked: list[tuple[str, Entry]] = []
    while len(picked) < most:
        may = [(queue, entry) for queue, entry in waiting if gates.room(now_us).of(queue, 1) > 0]
        if not may:
            break
        levels = {priority_of(queue) for queue, _ in may}
        highest = [(queue, entry) for queue, entry in may if priority_of(queue) == max(levels)]
        if len(levels) > 1:
            picks += 1
            if picks == FAIR_PICK:
                picks, highest = 0, may
        chosen = min(highest, key=lambda job: job[1])
        gates.started(chosen[0], now_us)
        waiting.remove(chosen)
        picked.append(chosen)
    return picked


@given(
    jobs=st.lists(st.tuples(st.sampled_from(QUEUES), st.integers(0, 6)), max_size=40),
    now_us=st.integers(0, 7),
    most=st.integers(1, 30),
    slots=st.integers(1, 20),
    picks=st.integers(0, FAIR_PICK - 1),
)
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_picks_are_those_made_one_by_one(
    jobs: list[tuple[str, int]], now_us: int, most: int, slots: int, picks: int
) -> None:
    """Priority, then fire time, then acceptance; one in eight by fire time alone; never past a gate."""
    index = loaded(jobs)
    index._picks = picks
    taken = index.take_due(now_us, most, Gates(ROUTING, slots, {}).room(now_us))
    assert taken == picked_by_hand(jobs, now_us, most, slots, picks)
    left = {queue: list(index.window(queue)) for queue in QUEUES}
    assert sum(map(len, left.values())) + len(taken) == len(jobs)


@given(
    jobs=st.lists(st.tuples(st.sampled_from(QUEUES[:5]), st.integers(0, 6)), min_size=1, max_size=40),
    offers=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=60),
)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_a_turn_that_begins_only_some_changes_no_order(
    jobs: list[tuple[str, int]], offers: list[tuple[int, int]]
) -> None:
    """Whatever is offered and however little of it is begun, jobs begin as if they were picked one by one."""
    index = loaded(jobs)
    begun: list[tuple[str, Entry]] = []
    for offered, fit in [*offers, *[(len(jobs), len(jobs))]]:
        taken = index.take_due(9, offered, Gates(ROUTING, 1000, {}).room(9))
        begun.extend(taken[:fit])
        for queue, entry in taken[fit:]:
            index.window(queue).add(entry)
        index.begun(min(fit, len(taken)))
    assert begun == picked_by_hand(jobs, 9, len(jobs), 1000, 0)


@pytest.mark.parametrize("fit", [1, 3, 8, 16])
def test_nobody_starves_behind_higher_priorities(fit: int) -> None:
    """While higher ones keep coming, also in turns that begin few of sixteen, every eighth start is the longest overdue."""
    dispatch = Dispatch(PLAIN, 1000, 50_000)
    dispatch.begin(Found(queues=["mutation#9"]))
    dispatch._due_max = 16
    dispatch.apply(TurnResult(refills=[(refill, [], True) for refill in dispatch.refills()]))
    seq, started, overtaken = 0, [], Counter[int]()
    low = [Entry(at_us, 1_000_000 + at_us) for at_us in range(20)]
    dispatch.apply(TurnResult(effects=Effects(pending=[("mutation", entry) for entry in low])))
    for now_us in range(20, 20 + 40 * FAIR_PICK):
        coming = [("mutation#9", Entry(now_us, seq := seq + 1)) for _ in range(20)]
        dispatch.apply(TurnResult(effects=Effects(pending=coming)))
        due = dispatch.take(now_us)
        begun = due[:fit]
        dispatch.put_back(due[fit:])
        dispatch.learn(len(due), len(begun))
        dispatch._due_max = 16
        started.extend(begun)
    assert [unit.entry for unit in started if unit.queue == "mutation"] == low
    for unit in started:
        if unit.queue == "mutation":
            break
        for entry in low:
            overtaken[entry.seq] += entry < unit.entry
    assert max(overtaken.values()) < FAIR_PICK
    places = [at for at, unit in enumerate(started) if unit.queue == "mutation"]
    assert all(place < FAIR_PICK * (nth + 1) for nth, place in enumerate(places))


@given(jobs=st.lists(st.tuples(st.sampled_from(QUEUES[:5]), st.integers(0, 30)), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_overtaking_is_bounded(jobs: list[tuple[str, int]]) -> None:
    """A due job is overtaken by at most seven later-due ones for each that was due before it, and for itself."""
    order = loaded(jobs).take_due(99, 99, Gates(ROUTING, 1000, {}).room(99))
    for at, (_, entry) in enumerate(order):
        later = sum(other > entry for _, other in order[:at])
        before = sum(other < entry for _, other in order)
        assert later <= (FAIR_PICK - 1) * (before + 1)


# ------------------------------------------------------------------ what is in the turn, or being prepared


def turn(
    dispatch: Dispatch, *, pending: Any = (), gone: Any = (), due: list[RunDue] | None = None, begun: int = 0
) -> None:
    """Settle a turn as the actor does; the store holds no more than is said here."""
    effects = Effects(pending=list(pending), gone=list(gone))
    refills = [(refill, [], True) for refill in dispatch.refills()]
    dispatch.apply(TurnResult(effects=effects, refills=refills))
    dispatch.put_back((due or [])[begun:], effects.gone)
    dispatch.learn(len(due or []), begun)


def waiting(dispatch: Dispatch, queue: str = "mutation") -> list[Entry]:
    return list(dispatch.index.window(queue))


@pytest.fixture
def dispatch() -> Dispatch:
    """A dispatch that knows everything: nothing waits."""
    dispatch = Dispatch(PLAIN, 100, 50)
    dispatch.begin(Found())
    turn(dispatch)
    return dispatch


A, B = Entry(5, 1), Entry(6, 2)


def test_what_a_turn_had_no_time_for_is_back_in_its_place(dispatch: Dispatch) -> None:
    """Once, and not when it is gone meanwhile: canceled, or parked in its lane."""
    turn(dispatch, pending=[("mutation", A), ("mutation", B)])
    due = dispatch.take(9)
    turn(dispatch, due=due, begun=1)
    assert waiting(dispatch) == [B]
    due = dispatch.take(9)
    turn(dispatch, gone=[("mutation", B)], due=due)
    assert waiting(dispatch) == []


def test_a_head_that_went_and_came_back_stands_once(dispatch: Dispatch) -> None:
    """Parked and unparked within one turn while it waits: the entry must not be there twice."""
    turn(dispatch, pending=[("mutation", A)])
    turn(dispatch, gone=[("mutation", A)], pending=[("mutation", A)])
    assert waiting(dispatch) == [A]


@pytest.mark.parametrize("begun", [0, 1])
def test_when_a_taken_head_came_back_the_store_is_asked(begun: int, dispatch: Dispatch) -> None:
    """Parked and unparked in the very turn that it was taken for: whether it began, only the store can say."""
    turn(dispatch, pending=[("mutation", A)])
    due = dispatch.take(9)
    turn(dispatch, gone=[("mutation", A)], pending=[("mutation", A)], due=due, begun=begun)
    (refill,) = dispatch.refills()
    assert refill.queue == "mutation"
    dispatch.apply(TurnResult(refills=[(refill, [A], True)]))
    assert waiting(dispatch) == [A]


def test_what_is_being_prepared_is_not_taken_in_again(dispatch: Dispatch) -> None:
    """Turns pass while identities are resolved: neither a lane nor a refill may put a taken entry in a second time."""
    turn(dispatch, pending=[("mutation", A), ("mutation", B)])
    due = dispatch.take(9)
    turn(dispatch, gone=[("mutation", A)])
    turn(dispatch, pending=[("mutation", A)])
    assert waiting(dispatch) == []
    dispatch.index.forget("mutation")
    (refill,) = dispatch.refills()
    dispatch.apply(TurnResult(refills=[(refill, [A, B], True)]))
    assert waiting(dispatch) == []
    turn(dispatch, due=due, begun=1)
    assert waiting(dispatch) == [B]


# ------------------------------------------------------------------ how much it costs


class Counted(Room):
    """Room that counts how often it is asked."""

    asked = 0

    def of(self, queue: str, most: int) -> int:
        Counted.asked += 1
        return super().of(queue, most)


@pytest.mark.parametrize("priorities", [1, 2, 100])
def test_taking_a_thousand_of_two_hundred_queues_asks_a_few_times_each(
    priorities: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interleaved as badly as can be, the work grows with the jobs, not with the jobs times the queues."""
    queues = [f"fn:{at}" + (f"#{at % priorities}" if at % priorities else "") for at in range(200)]
    index = loaded([(queues[at % 200], at) for at in range(2_000)])
    looks = Counter[str]()
    first = Window.first

    def counting(window: Window) -> Entry | None:
        looks["first"] += 1
        return first(window)

    monkeypatch.setattr(Window, "first", counting)
    Counted.asked = 0
    taken = index.take_due(10_000, 1_000, Counted(Gates(PLAIN, 10_000, {}), 10_000))
    assert len(taken) == 1_000
    if priorities == 1:
        assert taken == sorted(taken, key=lambda job: job[1])
    assert Counted.asked < 12 * 1_000
    assert looks["first"] < 12 * 1_000


def test_a_refill_is_asked_only_where_something_may_be_missing() -> None:
    """A queue that is known to be empty must not be read again each turn."""
    dispatch = Dispatch(PLAIN, 10, 4)
    dispatch.begin(Found(queues=["action#7"]))
    assert {refill.queue for refill in dispatch.refills()} == {"cron", "mutation", "action", "action#7"}
    assert all(isinstance(refill, Refill) and refill.limit == 4 for refill in dispatch.refills())
    turn(dispatch)
    assert dispatch.refills() == []
