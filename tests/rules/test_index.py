"""The index against the simplest thing it could be: one sorted list of everything that is pending."""

from __future__ import annotations

from bisect import insort

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from actor_scheduler.index import EVERYTHING, NOTHING, JobIndex, Window
from actor_scheduler.model import Entry

QUEUES = ("mutation", "action", "pool")
FAR_US = 1 << 40
moments = st.integers(min_value=0, max_value=12)  # few, so that ties are common
queues = st.sampled_from(QUEUES)
rooms = st.dictionaries(queues, st.integers(min_value=-1, max_value=4))


class Fixed:
    """Room, and gates, by hand: how many of a queue may start now; any number of one that does not stand here."""

    def __init__(self, room: dict[str, int] | None = None) -> None:
        self.left = dict(room or {})

    def of(self, queue: str, most: int) -> int:
        return min(self.left.get(queue, most), most)

    def spend(self, queue: str, count: int) -> None:
        if queue in self.left:
            self.left[queue] -= count

    def opens_at_us(self, queue: str, now_us: int) -> int | None:
        return now_us if self.left.get(queue, 1) > 0 else None


class IndexAndTable(RuleBasedStateMachine):
    """Drives a JobIndex as the actor does, beside a table that holds every pending entry."""

    entries = Bundle("entries")

    @initialize(entries_max=st.integers(min_value=1, max_value=5))
    def start(self, entries_max: int) -> None:
        self.index = JobIndex(entries_max=entries_max)
        self.table: dict[str, list[Entry]] = {queue: [] for queue in QUEUES}
        self.seq = 0
        for queue in QUEUES:
            self.index.window(queue)

    # ------------------------------------------------------------ what a turn may do

    @rule(target=entries, queue=queues, fire_at_us=moments)
    def add(self, queue: str, fire_at_us: int) -> tuple[str, Entry]:
        self.seq += 1
        entry = Entry(fire_at_us, self.seq)
        insort(self.table[queue], entry)
        self.index.window(queue).add(entry)
        return queue, entry

    @rule(target=entries, queue=queues, fire_at_us=st.lists(moments, max_size=8))
    def add_many(self, queue: str, fire_at_us: list[int]) -> object:
        added = [Entry(at_us, self.seq + 1 + place) for place, at_us in enumerate(fire_at_us)]
        self.seq += len(added)
        for entry in added:
            insort(self.table[queue], entry)
        self.index.window(queue).add_many(added)
        return multiple(*((queue, entry) for entry in added))

    @rule(which=entries)
    def discard(self, which: tuple[str, Entry]) -> None:
        queue, entry = which
        if entry in self.table[queue]:
            self.table[queue].remove(entry)
        self.index.window(queue).discard(entry)

    @rule(which=entries)
    def put_back_or_retry(self, which: tuple[str, Entry]) -> None:
        queue, entry = which
        if entry not in self.table[queue]:
            insort(self.table[queue], entry)
            self.index.window(queue).add(entry)

    @rule(queue=queues, count=st.integers(min_value=1, max_value=7), arriving=st.lists(entries, max_size=6))
    def refill(self, queue: str, count: int, arriving: list[tuple[str, Entry]]) -> None:
        """A turn: the refill is asked, jobs are inserted, the store is read, the inserts come first."""
        window = self.index.window(queue)
        asked = window.horizon
        for which in arriving:
            self.put_back_or_retry(which)
        after = [entry for entry in self.table[queue] if entry > asked]
        window.refill(asked, after[:count], complete=len(after[:count]) < count)

    @rule(now_us=moments, count_max=st.integers(min_value=0, max_value=6), room=rooms)
    def take_due(self, now_us: int, count_max: int, room: dict[str, int]) -> None:
        due = sorted(
            (entry, queue)
            for queue in QUEUES
            for entry in [e for e in self._loaded(queue) if e.fire_at_us <= now_us][
                : max(room.get(queue, count_max), 0)
            ]
        )
        expected = [(queue, entry) for entry, queue in due][:count_max]
        assert self.index.take_due(now_us, count_max, Fixed(room)) == expected
        for queue, entry in expected:
            self.table[queue].remove(entry)

    @rule(now_us=moments, count_max=st.integers(min_value=1, max_value=6), full=queues)
    def a_queue_without_room_hides_nobody(self, now_us: int, count_max: int, full: str) -> None:
        others = sorted(
            (entry, queue)
            for queue in QUEUES
            if queue != full
            for entry in self._loaded(queue)
            if entry.fire_at_us <= now_us
        )
        taken = self.index.take_due(now_us, count_max, Fixed({full: 0}))
        assert taken == [(queue, entry) for entry, queue in others][:count_max]
        for queue, entry in taken:
            self.table[queue].remove(entry)

    @precondition(lambda self: sum(map(len, self.table.values())) > 0)
    @rule(count=st.integers(min_value=1, max_value=4), batch=st.integers(min_value=1, max_value=3))
    def drain(self, count: int, batch: int) -> None:
        """Refilling whenever the index asks, and taking, gives exactly the table, in order, queue by queue."""
        expected = {queue: list(entries) for queue, entries in self.table.items()}
        drained: dict[str, list[Entry]] = {queue: [] for queue in QUEUES}
        for _ in range(2 * (sum(map(len, expected.values())) + len(QUEUES)) + 2):
            for queue, horizon in self.index.must_refill():
                assert horizon == self.index.window(queue).horizon
                self.refill(queue, count, [])
                self.windows_hold_exactly_what_is_within_the_horizon()
            for queue, entry in self.index.take_due(FAR_US, batch, Fixed()):
                drained[queue].append(entry)
                self.table[queue].remove(entry)
        assert drained == expected

    # ------------------------------------------------------------ what always holds

    def _loaded(self, queue: str) -> list[Entry]:
        return [entry for entry in self.table[queue] if entry <= self.index.window(queue).horizon]

    @invariant()
    def windows_hold_exactly_what_is_within_the_horizon(self) -> None:
        if not hasattr(self, "index"):
            return
        for queue in QUEUES:
            window = self.index.window(queue)
            window._check()
            assert list(window) == self._loaded(queue)
            assert len(window) == len(self._loaded(queue))
            assert window.complete == (window.horizon == EVERYTHING)
            assert window.must_refill == (not self._loaded(queue) and not window.complete)

    @invariant()
    def the_earliest_moment_is_never_later_than_the_truth(self) -> None:
        if not hasattr(self, "index"):
            return
        stale = {queue for queue, _ in self.index.must_refill()}
        for full in ((), *((queue,) for queue in QUEUES), QUEUES):
            room = dict.fromkeys(full, 0)
            may_go = [e.fire_at_us for q in QUEUES if q not in full and q not in stale for e in self.table[q]]
            assert self.index.earliest_us(-1, Fixed(room)) == min(may_go, default=None)


TestIndexAndTable = IndexAndTable.TestCase
TestIndexAndTable.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True, database=None
)


def test_a_new_window_takes_nothing_in_before_it_was_loaded() -> None:
    """A window that was never loaded knows nothing: it must ask the store first, and not trust what is added."""
    window = Window(entries_max=3)
    window.add(Entry(1, 1))
    window.add_many([Entry(2, 2)])
    assert (list(window), window.horizon, window.must_refill) == ([], NOTHING, True)


def test_every_real_entry_lies_between_nothing_and_everything() -> None:
    """The two ends enclose every moment and every sequence number of 63 bits."""
    lowest, highest = Entry(-(1 << 62), 1), Entry((1 << 63) - 1, (1 << 63) - 1)
    assert NOTHING < lowest < highest < EVERYTHING


@given(
    fire_at_us=st.lists(moments, max_size=30),
    load=st.integers(min_value=1, max_value=6),
    entries_max=st.integers(min_value=1, max_value=5),
)
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_memory_stays_bounded_however_much_is_loaded_at_once(
    fire_at_us: list[int], load: int, entries_max: int
) -> None:
    """One refill larger than the window keeps the earliest entries, and the horizon covers no evicted one."""
    table = sorted(Entry(at_us, seq) for seq, at_us in enumerate(fire_at_us))
    window = Window(entries_max=entries_max)
    window.refill(window.horizon, table[:load], complete=len(table) < load)
    window._check()
    kept = list(window)
    assert kept == table[: len(kept)]
    assert len(kept) <= entries_max
    assert window.complete == (len(table) < load and len(table) <= entries_max)
    assert all(entry > window.horizon for entry in table[len(kept) :])
