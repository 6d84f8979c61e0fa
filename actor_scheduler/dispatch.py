"""Who is next: the index of pending jobs and the gates before them, kept in step with what the store committed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actor_scheduler.gates import Gates, Slots
from actor_scheduler.index import JobIndex
from actor_scheduler.limits import TURN_DUE_MAX, WINDOW_LOAD
from actor_scheduler.model import ACTIONS, CRONS, MUTATIONS, Entry
from actor_scheduler.store.base import Refill, RunDue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actor_scheduler.queues import Routing
    from actor_scheduler.store.base import Found, TurnResult

_DUE_MIN: Final = 16  # due entries offered to a turn, however slow the one before was


class Dispatch:
    """Chooses which due jobs go into the next turn.

    Invariant: an entry of the store's queues is in the index, or `_out`: taken, and in the turn under way or being
    prepared; never both.
    """

    def __init__(self, routing: Routing, slots: int, window_max: int, *, ticks: bool = True) -> None:
        self._routing = routing
        self._ticks = ticks
        self._slots = slots
        self._window_max = window_max
        self._window_load = min(WINDOW_LOAD, window_max)
        self._due_max = TURN_DUE_MAX
        self.index = JobIndex(entries_max=window_max)
        self.gates = Gates(routing, slots, {}, ticks=ticks)
        self._out: set[Entry] = set()
        self._unsure: set[str] = set()  # queues in which one of these left and came back in the turn being settled

    def begin(self, found: Found) -> None:
        """Start from what stands in the store, with nothing running."""
        self.gates = Gates(self._routing, self._slots, found.starts, ticks=self._ticks)
        self.rebuild(found)

    def rebuild(self, found: Found) -> None:
        """Read the index from the store again; what runs goes on, and its gates with it."""
        self.index = JobIndex(entries_max=self._window_max)
        self._out.clear()
        for queue in (CRONS, MUTATIONS, ACTIONS, *found.queues):
            self.index.window(queue)

    # ------------------------------------------------------------ what is next

    def next_us(self, now_us: int) -> int | None:
        """Return when the next job can start; None while time alone brings none."""
        return self.index.earliest_us(now_us, self.gates)

    def take(self, now_us: int) -> list[RunDue]:
        """Remove and return what the next turn is to start, in order."""
        due = self.index.take_due(now_us, self._due_max, self.gates.room(now_us))
        self._out.update(entry for _, entry in due)
        return [RunDue(queue, entry) for queue, entry in due]

    def let_through(self, due: list[RunDue], now_us: int) -> list[RunDue]:
        """Return what of a batch may still start; the rest goes back: a gate was shut while it was being prepared."""
        room, through = self.gates.room(now_us), []
        for unit in due:
            if room.of(unit.queue, 1) > 0:
                room.spend(unit.queue, 1)
                through.append(unit)
            else:
                self.put_back([unit])
        return through

    def held_up(self, now_us: int) -> bool:
        """Return whether something is due that only waits for a running attempt to end."""
        return not self.gates.paused and any(
            first.fire_at_us <= now_us and self._waits_for_an_end(queue, now_us)
            for queue in self.index.queues()
            if (first := self.index.window(queue).first()) is not None
        )

    def _waits_for_an_end(self, queue: str, now_us: int) -> bool:
        shut = [gate for gate in self.gates.of(queue) if gate.room(now_us) <= 0]
        return bool(shut) and all(isinstance(gate, Slots) and gate.limit > 0 for gate in shut)

    def refills(self) -> list[Refill]:
        """Return what must be read at the end of the next turn."""
        return [Refill(queue, after, self._window_load) for queue, after in self.index.must_refill()]

    # ------------------------------------------------------------ what was done

    def apply(self, result: TurnResult) -> None:
        """Follow what a turn committed: first what is gone, then what is pending."""
        for queue, entry in result.effects.gone:
            self.index.window(queue).discard(entry)
        by_queue: dict[str, list[Entry]] = {}
        out = self._out
        for queue, entry in result.effects.pending:
            if entry in out:
                self._unsure.add(queue)
            else:
                by_queue.setdefault(queue, []).append(entry)
        for queue, entries in by_queue.items():
            self.index.window(queue).add_many(entries)
        for refill, entries, complete in result.refills:
            window = self.index.window(refill.queue)
            window.refill(refill.after, entries, complete=complete)
            for entry in out.intersection(entries) if out else ():
                window.discard(entry)

    def put_back(self, due: Iterable[RunDue], gone: Iterable[tuple[str, Entry]] = ()) -> None:
        """Return entries that were not begun, but for those that are gone meanwhile."""
        lost = {entry for _, entry in gone}
        for unit in due:
            self._out.discard(unit.entry)
            if unit.entry not in lost:
                self.index.window(unit.queue).add(unit.entry)

    def learn(self, offered: int, begun: int) -> None:
        """Know how many of those taken a turn began; offer what it had time for, up to twice that while it is enough.

        Where one of them left its queue and came back in that turn, the store is asked again: it may have been begun
        before, between, or after.
        """
        unsure, self._unsure = self._unsure, set()
        if offered:
            self._out.clear()
            self.index.begun(begun)
            for queue in unsure:
                self.index.forget(queue)
            enough = begun == offered
            self._due_max = min(max(begun * 2 if enough else begun, _DUE_MIN), TURN_DUE_MAX)
