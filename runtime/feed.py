"""Live events, to many listeners: what happens to jobs, once it is durable.

There is one short log of events for all listeners; each knows how far it has read.  So publishing costs the same for
one listener and for hundreds, a slow one costs nothing more, and what it has missed can be counted exactly.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from actor_scheduler.errors import Overloaded
from actor_scheduler.model import Again, Failed, Stopped, Succeeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from actor_scheduler.model import Cause, DueJob, Kind, Outcome, State

EVENTS_KEPT: Final = 1_000  # ~0.4 KiB each; what a listener has not read when it leaves the log, it has missed
LISTENERS_MAX: Final = 500
OF_ONE_MAX: Final = 100  # listeners of one key: whoever has it can't keep the others out
OPERATORS_ROOM: Final = 50  # of all listeners, the last ones: for those who may do something about the others
CHANGED_SECONDS: Final = 0.25  # between two `Changed`: four a second
# Waking a listener costs the loop ~50 us, and each event sent to it ~0.3 us and ~250 B.  With these pauses for each of
# them between two wakings they take about a tenth of the loop, and 25 MB/s, however many they are and whatever happens.
WAKE_PACE_SECONDS: Final = 0.000_5
EVENT_PACE_SECONDS: Final = 0.000_01

What: TypeAlias = Literal["jobs", "crons", "settings"]


@dataclass(slots=True, kw_only=True)
class _Numbered:
    number: int = 0  # given when it is published; they rise by one
    wire: bytes | None = field(default=None, compare=False, repr=False)  # its form on a stream, made by who needs it


@dataclass(slots=True, kw_only=True)
class JobHappened(_Numbered):
    """An attempt started (`in_progress`, mutations too), failed and will be retried (`pending`), or ended its job."""

    id: str
    path: str
    kind: Kind
    state: State
    attempt: int
    at_us: int
    cron: str | None = None
    cause: Cause | None = None
    error: str | None = None


@dataclass(slots=True, kw_only=True)
class Changed(_Numbered):
    """Something was scheduled, canceled, paused, defined or set: what was listed before may be out of date."""

    what: tuple[What, ...]


@dataclass(slots=True, kw_only=True)
class Lagged(_Numbered):
    """Here so many events were dropped, the last of them with this number: the listener was too slow."""

    dropped: int


Event: TypeAlias = JobHappened | Changed | Lagged


class Feed:
    """Publishes events to whoever listens. Without listeners it costs nothing; publishing never waits or raises."""

    def __init__(self) -> None:
        self._log: deque[JobHappened | Changed] = deque(maxlen=EVENTS_KEPT)  # the last ones, without a gap
        self.number = 0  # of the last event
        self.listeners: set[Listener] = set()  # while there are none, there is no need to tell anything
        self._waiting: dict[Listener, asyncio.Future[None]] = {}
        self._pacing: asyncio.TimerHandle | None = None  # some were woken just now: nobody is before it rings
        self._changing: asyncio.TimerHandle | None = None  # a `Changed` was published just now
        self._changed: dict[What, None] = {}  # since then
        self._closed = False

    def __len__(self) -> int:
        """Return how many listeners there are."""
        return len(self.listeners)

    # ------------------------------------------------------------ publishing

    def starting(self, job: DueJob) -> None:
        """Tell that an attempt starts; its claim, or the mutation itself, is durable."""
        if self.listeners:
            self._publish(_happened(job, "in_progress", job.dispatched_at_us))

    def attempted(self, job: DueJob, outcome: Outcome, ended_at_us: int) -> None:
        """Tell how an attempt ended; that is durable."""
        if not self.listeners:
            return
        match outcome:
            case Succeeded():
                event = _happened(job, "success", ended_at_us)
            case Failed():
                event = _happened(job, "failed", ended_at_us, outcome)
            case Again(failure):
                event = _happened(job, "pending", ended_at_us, failure)
            case Stopped(failed):
                event = _happened(job, "canceled", ended_at_us, failed)
        self._publish(event)

    def changed(self, what: Iterable[What]) -> None:
        """Tell that something else has changed: at once, or together with what else changes within a quarter second."""
        if not self.listeners:
            return
        self._changed.update(dict.fromkeys(what))
        if self._changing is None:
            self._tell_changed()

    def _tell_changed(self) -> None:
        self._changing = None
        if self._changed:
            self._publish(Changed(what=tuple(sorted(self._changed))))
            self._changed.clear()
            self._changing = asyncio.get_running_loop().call_later(CHANGED_SECONDS, self._tell_changed)

    def _publish(self, event: JobHappened | Changed) -> None:
        self.number = event.number = self.number + 1
        self._log.append(event)
        if self._waiting and self._pacing is None:
            self._wake()

    # ------------------------------------------------------------ listening

    def check_room(self, of: str | None = None, *, operates: bool = True) -> None:
        """Raise Overloaded when there is no room for one more listener, of one key if that is said.

        At most LISTENERS_MAX listen, OF_ONE_MAX of them of one key; the last OPERATORS_ROOM places are for operators.
        """
        most = LISTENERS_MAX if operates else LISTENERS_MAX - OPERATORS_ROOM
        if len(self.listeners) >= most:
            msg = f"{most} listeners are connected, and no more are taken"
            raise Overloaded(msg)
        if of is not None and sum(listener.of == of for listener in self.listeners) >= OF_ONE_MAX:
            msg = f"{OF_ONE_MAX} listeners with this key are connected, and no more are taken"
            raise Overloaded(msg)

    @contextlib.asynccontextmanager
    async def listen(self, of: str | None = None, *, operates: bool = True) -> AsyncIterator[Listener]:
        """Yield a listener of what is published from now on. Raises Overloaded as `check_room` does."""
        self.check_room(of, operates=operates)
        listener = Listener(self, of, ended=self._closed)
        self.listeners.add(listener)
        try:
            yield listener
        finally:
            self.listeners.discard(listener)
            if not self.listeners:
                self._rest()

    def end(self) -> None:
        """Let those who listen now end, once they have read what was published; others may listen afterwards."""
        for listener in self.listeners:
            listener.end()

    def close(self) -> None:
        """Let everybody end, also those who come later: the app stops."""
        self._closed = True
        self.end()

    def wake(self, listener: Listener) -> None:
        """Let a listener look, if it waits."""
        waiter = self._waiting.get(listener)
        if waiter is not None:
            _set(waiter)

    def _rest(self) -> None:
        for timer in (self._pacing, self._changing):
            if timer is not None:
                timer.cancel()
        self._pacing = self._changing = None
        self._changed.clear()
        self._log.clear()

    def _wake(self) -> None:
        """Wake who waits for what there is, and others only after a pause, which leaves the loop to the jobs."""
        self._pacing = None
        behind = [listener for listener in self._waiting if listener.number < self.number]
        for listener in behind:
            self.wake(listener)
        if behind:
            self._pace(self.number - min(listener.number for listener in behind))

    def _pace(self, unread: int) -> None:
        pause = WAKE_PACE_SECONDS + min(unread, len(self._log)) * EVENT_PACE_SECONDS
        self._pacing = asyncio.get_running_loop().call_later(pause * len(self.listeners), self._wake)

    async def news(self, listener: Listener) -> None:
        """Return when it is the listener's turn to read, or to end."""
        while not listener.ended and (self._pacing is not None or listener.number == self.number):
            self._waiting[listener] = waiter = asyncio.get_running_loop().create_future()
            try:
                await waiter
            finally:
                del self._waiting[listener]
            if listener.number < self.number:
                return
        if self._pacing is None:
            self._pace(self.number - listener.number)

    def since(self, number: int) -> list[Event]:
        """Return what was published after this event; first of all, how much of it has left the log."""
        unread = self.number - number
        kept = len(self._log)
        found: list[Event] = []
        if unread > kept:
            found.append(Lagged(dropped=unread - kept, number=self.number - kept))
        found += islice(self._log, max(kept - unread, 0), None)
        return found


class Listener:
    """The events of one listener, in order; for one task. It ends when the feed is closed."""

    def __init__(self, feed: Feed, of: str | None, *, ended: bool) -> None:
        self.of = of  # the key it came with
        self._feed = feed
        self._read: deque[Event] = deque()
        self.number = feed.number  # of the last event that it has read
        self.ended = ended  # nothing comes after what was published

    def end(self) -> None:
        """Let it end, once it has read what was published."""
        self.ended = True
        self._feed.wake(self)

    async def batch(self) -> list[Event]:
        """Return what was published since the last time, once there is something; nothing at the end."""
        feed = self._feed
        await feed.news(self)
        found = feed.since(self.number)
        self.number = feed.number
        return found

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Event:
        """Return the next event."""
        if not self._read:
            self._read.extend(await self.batch())
        if not self._read:
            raise StopAsyncIteration
        return self._read.popleft()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _happened(job: DueJob, state: State, at_us: int, failure: Failed | None = None) -> JobHappened:
    return JobHappened(
        id=job.id,
        path=job.path,
        kind=job.kind,
        state=state,
        attempt=job.attempt,
        at_us=at_us,
        cron=job.cron,
        cause=failure.cause if failure is not None else None,
        error=failure.error if failure is not None else None,
    )
