"""The sorted in-memory index: a cache of the earliest pending jobs, one window for each dispatch queue.

A window holds a queue's earliest entries; the rest stay in the store behind its partial index.  The horizon is the
last entry *loaded*, or EVERYTHING when all are: what sorts at or before it is in memory, what sorts after it is not.
Without that rule a job added behind an incomplete window would be seen once the entries before it were gone, but
those evicted between would be lost until a restart.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedList

from actor_scheduler.limits import FAIR_PICK, WINDOW_MAX
from actor_scheduler.model import Entry
from actor_scheduler.queues import priority_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from actor_scheduler.gates import Gates, Room

EVERYTHING: Final = Entry(1 << 63, 1 << 63)  # sorts after every real entry
NOTHING: Final = Entry(-(1 << 63), 0)  # sorts before every real entry


class Window:
    """The earliest pending entries of one queue.

    Invariant: every pending entry of the store at or before `horizon`, but for those taken, is in `_entries`, and
    nothing else is.
    """

    def __init__(self, *, entries_max: int = WINDOW_MAX, priority: int = 0) -> None:
        self._entries: SortedList[Entry] = SortedList()
        self._entries_max = entries_max
        self.priority: Final = priority
        self.horizon: Entry = NOTHING

    def __len__(self) -> int:
        """Return the number of entries in memory. O(1)."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries in memory, earliest first."""
        return iter(self._entries)

    @property
    def complete(self) -> bool:
        """Whether every pending entry of the queue is in memory."""
        return self.horizon == EVERYTHING

    @property
    def must_refill(self) -> bool:
        """Whether the earliest pending entry may be one that is not in memory."""
        return not self._entries and not self.complete

    def first(self) -> Entry | None:
        """Return the earliest entry in memory. O(1)."""
        return self._entries[0] if self._entries else None

    def add(self, entry: Entry) -> None:
        """Take in an entry that is now in the store, if it is within the horizon. O(log n)."""
        if entry <= self.horizon:
            self._entries.add(entry)
            if len(self._entries) > self._entries_max:
                self._evict()

    def add_many(self, entries: list[Entry]) -> None:
        """Take in many at once. O(k log n), and far quicker than one by one."""
        horizon = self.horizon
        self._entries.update(entries if horizon == EVERYTHING else [e for e in entries if e <= horizon])
        if len(self._entries) > self._entries_max:
            self._evict()

    def discard(self, entry: Entry) -> None:
        """Forget an entry that is not pending any more. O(log n); harmless when it was not in memory."""
        self._entries.discard(entry)

    def take(self, last: Entry, count_max: int) -> list[Entry]:
        """Remove and return the entries up to and including `last`, earliest first, at most `count_max`."""
        end = min(self._entries.bisect_right(last), count_max)
        if end <= 0:
            return []
        taken = list(self._entries[:end])
        del self._entries[:end]
        return taken

    def refill(self, after: Entry, entries: list[Entry], *, complete: bool) -> None:
        """Take in what the store holds right after `after`, in order; `complete` says that nothing follows.

        Ignored when the horizon is not `after` any more: additions of the same turn have evicted what lies between.
        """
        if after != self.horizon:
            return
        self._entries.update(entries)
        if complete:
            self.horizon = EVERYTHING
        elif entries:
            self.horizon = entries[-1]
        if len(self._entries) > self._entries_max:
            self._evict()

    def _evict(self) -> None:
        # Down to three quarters, so that a stream of early additions does not evict one by one.
        keep = max(self._entries_max * 3 // 4, 1)
        del self._entries[keep:]
        self.horizon = self._entries[-1]

    def _check(self) -> None:
        """Assert what can be asserted without the store."""
        self._entries._check()  # noqa: SLF001 - sortedcontainers' own invariant check
        assert len(self._entries) <= self._entries_max
        assert len(set(self._entries)) == len(self._entries), "an entry stands twice"
        assert all(entry <= self.horizon for entry in self._entries[-1:]), "an entry beyond the horizon"


class _Line:
    """Queues in order of their first due entry, without those that have none, or no room, any more.

    Room only shrinks while one round picks, so whoever drops out stays out: looking costs O(1), all in all.
    """

    def __init__(self, windows: Mapping[str, Window], room: Room) -> None:
        self._windows = windows
        self._room = room
        self._heap: list[tuple[Entry, str]] = []

    def add(self, entry: Entry, queue: str) -> None:
        """Let a queue stand in line with its first entry. O(log n)."""
        heappush(self._heap, (entry, queue))

    def first(self) -> tuple[Entry, str] | None:
        """Return the earliest entry and its queue."""
        heap = self._heap
        while heap:
            entry, queue = heap[0]
            if self._windows[queue].first() == entry and self._room.of(queue, 1) > 0:
                return heap[0]
            heappop(heap)
        return None

    def second(self, end: Entry) -> Entry:
        """Return an entry up to which the first queue may be taken from without overtaking; `end` at most."""
        return min((entry for entry, _ in self._heap[1:3]), default=end)


class JobIndex:
    """The windows of all queues: what is due, in which order, and the earliest moment at which anything will be.

    Among due jobs the higher priority goes first, then the earlier fire time, then the order of acceptance.  One pick
    in FAIR_PICK goes to the longest overdue of any priority, so that nothing waits for ever.
    """

    def __init__(self, *, entries_max: int = WINDOW_MAX) -> None:
        self._entries_max = entries_max
        self._windows: dict[str, Window] = {}
        self._picks = 0  # since the last one that went to the longest overdue
        self._before: list[int] = []  # the same, before each of the entries taken last

    def window(self, queue: str) -> Window:
        """Return the window of a queue, an empty one when the queue is new."""
        window = self._windows.get(queue)
        if window is None:
            window = self._windows[queue] = Window(entries_max=self._entries_max, priority=priority_of(queue))
        return window

    def forget(self, queue: str) -> None:
        """Let the window of a queue be read from the store again."""
        self._windows.pop(queue, None)
        self.window(queue)

    def queues(self) -> Iterable[str]:
        """Return the names of the queues seen so far."""
        return self._windows.keys()

    def must_refill(self) -> list[tuple[str, Entry]]:
        """Return each queue whose window is empty but incomplete, with its horizon."""
        return [(queue, window.horizon) for queue, window in self._windows.items() if window.must_refill]

    def take_due(self, now_us: int, count_max: int, room: Room) -> list[tuple[str, Entry]]:
        """Remove and return due entries, at most `count_max`, in the order in which they are to start.

        Not more of a queue than there is room for.  A queue without room hides nobody.
        """
        end = Entry(now_us, 1 << 63)
        taken: list[tuple[str, Entry]] = []
        everybody = _Line(self._windows, room)
        lines: dict[int, _Line] = {}
        for queue, window in self._windows.items():
            if (first := window.first()) is not None and first <= end:
                lines.setdefault(window.priority, _Line(self._windows, room)).add(first, queue)
                everybody.add(first, queue)
        levels = sorted(lines)
        self._before = []
        while (left := count_max - len(taken)) > 0:
            before = self._picks
            picked = self._next(levels, lines, everybody, end)
            if picked is None:
                break
            queue, last, count = picked
            window = self._windows[queue]
            entries = window.take(last, min(left, room.of(queue, count)))
            room.spend(queue, len(entries))
            taken.extend((queue, entry) for entry in entries)
            if (first := window.first()) is not None and first <= end:
                lines[window.priority].add(first, queue)
                everybody.add(first, queue)
            self._before.extend([before] * len(entries))
        return taken

    def _next(
        self, levels: list[int], lines: dict[int, _Line], everybody: _Line, end: Entry
    ) -> tuple[str, Entry, int] | None:
        """Return the queue to take from, up to which entry, and how many at most; None when nothing may start."""
        while levels and lines[levels[-1]].first() is None:
            levels.pop()
        while len(levels) > 1 and lines[levels[-2]].first() is None:
            del levels[-2]
        if not levels:
            return None
        highest = lines[levels[-1]]
        chosen = highest.first()
        if len(levels) == 1:  # one priority: in order of fire time
            assert chosen is not None
            return chosen[1], highest.second(end), 1 << 30
        self._picks += 1
        if self._picks >= FAIR_PICK:
            self._picks = 0
            chosen = everybody.first()
        assert chosen is not None
        return chosen[1], end, 1

    def begun(self, count: int) -> None:
        """Know that only the first `count` of what was taken last were begun: the others were not picked, after all.

        Else a fair pick that a turn had no time for would be lost, and every one after it, too.
        """
        if count < len(self._before):
            self._picks = self._before[count]

    def earliest_us(self, now_us: int, gates: Gates) -> int | None:
        """Return when the next start is due or possible, whichever is later; None when time alone brings none."""
        moments = [
            max(first.fire_at_us, opens_us)
            for queue, window in self._windows.items()
            if (first := window.first()) is not None and (opens_us := gates.opens_at_us(queue, now_us)) is not None
        ]
        return min(moments, default=None)
