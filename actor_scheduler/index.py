"""The sorted in-memory index: a cache of the earliest pending jobs, one window for each dispatch queue.

A window holds a queue's earliest entries; the rest stay in the store behind its partial index.  The horizon is the
last entry *loaded*, or EVERYTHING when all are: what sorts at or before it is in memory, what sorts after it is not.
Without that rule a job added behind an incomplete window would be seen once the entries before it were gone, but
those evicted between would be lost until a restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedList

from actor_scheduler.limits import FAIR_PICK, WINDOW_MAX
from actor_scheduler.model import Entry
from actor_scheduler.queues import priority_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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


class JobIndex:
    """The windows of all queues: what is due, in which order, and the earliest moment at which anything will be.

    Among due jobs the higher priority goes first, then the earlier fire time, then the order of acceptance.  One pick
    in FAIR_PICK goes to the longest overdue of any priority, so that nothing waits for ever.
    """

    def __init__(self, *, entries_max: int = WINDOW_MAX) -> None:
        self._entries_max = entries_max
        self._windows: dict[str, Window] = {}
        self._picks = 0  # since the last one that went to the longest overdue

    def window(self, queue: str) -> Window:
        """Return the window of a queue, an empty one when the queue is new."""
        window = self._windows.get(queue)
        if window is None:
            window = self._windows[queue] = Window(entries_max=self._entries_max, priority=priority_of(queue))
        return window

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
        while (left := count_max - len(taken)) > 0:
            due = [
                (first, queue, window)
                for queue, window in self._windows.items()
                if (first := window.first()) is not None and first <= end and room.of(queue, 1) > 0
            ]
            if not due:
                break
            queue, last, count = self._next(due, end)
            picked = self._windows[queue].take(last, min(left, room.of(queue, count)))
            room.spend(queue, len(picked))
            taken.extend((queue, entry) for entry in picked)
        return taken

    def _next(self, due: list[tuple[Entry, str, Window]], end: Entry) -> tuple[str, Entry, int]:
        """Return the queue to take from, up to which entry, and how many at most."""
        due.sort()
        highest = max(window.priority for _, _, window in due)
        rivals = [candidate for candidate in due if candidate[2].priority == highest]
        if len(rivals) == len(due):  # one priority: in order of fire time
            return due[0][1], due[1][0] if len(due) > 1 else end, 1 << 30
        self._picks += 1
        if self._picks >= FAIR_PICK:
            self._picks = 0
            return due[0][1], end, 1
        return rivals[0][1], end, 1

    def earliest_us(self, now_us: int, gates: Gates) -> int | None:
        """Return when the next start is due or possible, whichever is later; None when time alone brings none."""
        moments = [
            max(first.fire_at_us, opens_us)
            for queue, window in self._windows.items()
            if (first := window.first()) is not None and (opens_us := gates.opens_at_us(queue, now_us)) is not None
        ]
        return min(moments, default=None)
