"""What this run of the app has done, counted: attempts by function, turns, how late starts were.

Times are arguments, and nothing here waits, reads or writes.  Counting one thing takes well under a microsecond.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from actor_scheduler.clock import monotonic_us
from actor_scheduler.limits import SECOND_US
from actor_scheduler.model import Again, Failed, Stopped, Succeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from actor_scheduler.model import Cause, Outcome

UNKNOWN: Final = "unknown"  # the label of what no function of this app is called: no path is without a colon
MINUTE_US: Final = 60 * SECOND_US
MINUTES_KEPT: Final = 60
SLOT_US: Final = 30 * SECOND_US
SLOTS_KEPT: Final = 10  # full ones, and the one that is being filled: the last five minutes, and up to 30 s more
_STEPS: Final = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)  # of a decade: a percentile is right to a sixth
SPANS_US: Final = tuple(round(step * 10**decade) for decade in range(2, 9) for step in _STEPS)  # 100 us to 800 s
SIZES: Final = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 3_000)


class Minute(NamedTuple):
    """How the attempts that ended in one minute ended; `retried` are the failed ones that another follows."""

    at_us: int  # its beginning
    success: int
    failed: int
    canceled: int
    retried: int


class Total(NamedTuple):
    """Attempts that were started, and how those ended that have; `retried` are failed ones that another follows."""

    started: int
    success: int
    failed: int
    canceled: int
    retried: int


class Recent(NamedTuple):
    """What the last five minutes were like; None where nothing was measured in them."""

    start_lag_p50_us: float | None
    start_lag_p99_us: float | None
    commit_p50_us: float | None
    commit_p99_us: float | None
    batch_mean: float | None


class Histogram:
    """How often a value lay between which bounds: of all values, and of those of the last five minutes.

    A value is counted under the first bound that is not below it; those above the last bound have a place of their own.
    """

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds: Final = tuple(bounds)
        self.sum = 0
        self._filling = [0] * (len(bounds) + 1)
        self._filling_sum = 0
        self._before = [0] * (len(bounds) + 1)  # all full slots, also those forgotten
        self._slot = 0
        self._slots: deque[tuple[int, list[int], int]] = deque(maxlen=SLOTS_KEPT)

    def add(self, *values: int) -> None:
        """Count values. O(log n) of the number of bounds, each."""
        filling, bounds = self._filling, self.bounds
        for value in values:
            filling[bisect_left(bounds, value)] += 1
        total = sum(values)
        self._filling_sum += total
        self.sum += total

    def turn_to(self, slot: int) -> None:
        """Count from now on into this slot: those before it are full."""
        if slot == self._slot:
            return
        full = self._filling
        if any(full):
            self._slots.append((self._slot, full, self._filling_sum))
            self._before = [sum(pair) for pair in zip(self._before, full, strict=True)]
            self._filling = [0] * len(full)
            self._filling_sum = 0
        self._slot = slot

    @property
    def counts(self) -> list[int]:
        """How many values lay under each bound and above the one before it; the last are those above every bound."""
        return [sum(pair) for pair in zip(self._before, self._filling, strict=True)]

    def recent(self, slot: int) -> tuple[list[int], int]:
        """Return the counts and the sum of the last full slots, and of the one being filled, as seen from `slot`."""
        counts, total = [0] * len(self._filling), 0
        for at, full, full_sum in (*self._slots, (self._slot, self._filling, self._filling_sum)):
            if slot - SLOTS_KEPT <= at <= slot:
                counts = [sum(pair) for pair in zip(counts, full, strict=True)]
                total += full_sum
        return counts, total

    def quantile(self, counts: Sequence[int], share: float) -> float | None:
        """Return a value that this share of the counted ones does not exceed, as closely as the bounds tell it.

        None when nothing was counted; the last bound for whatever lies above it.
        """
        wanted = share * sum(counts)
        if not wanted:
            return None
        seen = 0
        for place, count in enumerate(counts[:-1]):
            if count and seen + count >= wanted:
                low = self.bounds[place - 1] if place else 0
                return low + (self.bounds[place] - low) * (wanted - seen) / count
            seen += count
        return float(self.bounds[-1])


class FunctionCounts:
    """The attempts of one function."""

    __slots__ = ("canceled", "failed", "failures", "retried", "started", "success")

    def __init__(self) -> None:
        self.started = 0
        self.success = 0
        self.failed = 0  # for good
        self.canceled = 0
        self.retried = 0  # failed, and another attempt follows
        self.failures: dict[Cause, int] = {}  # every attempt that failed, by cause: those that are retried, too

    @property
    def idle(self) -> bool:
        """Whether there is nothing to tell of it."""
        return not (self.started or self.success or self.failed or self.canceled or self.retried)


class Meter:
    """Counters and histograms of one run of the app.

    `paths` are the names of its functions, each with the one it is counted under; what has none of them is counted
    as UNKNOWN, so that there are never more names than functions, whatever stands in the file.
    """

    def __init__(self, paths: Mapping[str, str], monotonic: Callable[[], int] = monotonic_us) -> None:
        self._monotonic = monotonic
        self.functions: Final = {name: FunctionCounts() for name in (*dict.fromkeys(paths.values()), UNKNOWN)}
        self._by_path: Final = {path: self.functions[name] for path, name in paths.items()}
        self._unknown: Final = self.functions[UNKNOWN]
        self.commit: Final = Histogram(SPANS_US)
        self.batch: Final = Histogram(SIZES)
        self.lag: Final = Histogram(SPANS_US)
        self.ticks_run = 0
        self.ticks_dropped = 0
        self._minutes: dict[int, list[int]] = {}

    # ------------------------------------------------------------ what happens

    def turned(self, units: int, took_us: int, lags_us: Sequence[int] = ()) -> None:
        """Count a turn: how many units it had, and how long they and their commit took.

        `lags_us` is how long after their fire times the attempts among them were dispatched.
        """
        slot = self._monotonic() // SLOT_US
        self.commit.turn_to(slot)
        self.batch.turn_to(slot)
        self.lag.turn_to(slot)
        self.commit.add(took_us)
        self.batch.add(units)
        if lags_us:  # a clock that was set back makes one negative
            self.lag.add(*(lags_us if min(lags_us) >= 0 else [max(lag, 0) for lag in lags_us]))

    def fired(self, runs: int, dropped: int) -> None:
        """Count the ticks of a cron that have come: those that run, and those that do not."""
        self.ticks_run += runs
        self.ticks_dropped += dropped

    def started(self, path: str) -> None:
        """Count an attempt that starts."""
        self._by_path.get(path, self._unknown).started += 1

    def ended(self, path: str, outcome: Outcome, at_us: int) -> None:
        """Count an attempt that ended, and how."""
        counts = self._by_path.get(path, self._unknown)
        minute = self._minutes.get(at_us // MINUTE_US) or self._begin_minute(at_us // MINUTE_US)
        if isinstance(outcome, Succeeded):  # the one that there are many of
            counts.success += 1
            minute[0] += 1
            return
        failure: Failed | None = None
        match outcome:
            case Failed():
                failure = outcome
                counts.failed += 1
                minute[1] += 1
            case Stopped(failure):
                counts.canceled += 1
                minute[2] += 1
            case Again(failure):
                counts.retried += 1
                minute[3] += 1
        if failure is not None:
            counts.failures[failure.cause] = counts.failures.get(failure.cause, 0) + 1

    def _begin_minute(self, number: int) -> list[int]:
        if len(self._minutes) > MINUTES_KEPT:  # the oldest by the clock: it may have been set back
            del self._minutes[min(self._minutes)]
        minute = self._minutes[number] = [0, 0, 0, 0]
        return minute

    # ------------------------------------------------------------ what is told

    @property
    def total(self) -> Total:
        """The attempts of all functions, until now."""
        every = self.functions.values()
        return Total(
            sum(counts.started for counts in every),
            sum(counts.success for counts in every),
            sum(counts.failed for counts in every),
            sum(counts.canceled for counts in every),
            sum(counts.retried for counts in every),
        )

    def minutes(self, now_us: int) -> list[Minute]:
        """Return the last 60 minutes, this one among them, the oldest first."""
        last = now_us // MINUTE_US
        return [
            Minute(number * MINUTE_US, *self._minutes.get(number, (0, 0, 0, 0)))
            for number in range(last - MINUTES_KEPT + 1, last + 1)
        ]

    def recent(self) -> Recent:
        """Return what the last five minutes were like."""
        slot = self._monotonic() // SLOT_US
        lags, _ = self.lag.recent(slot)
        commits, _ = self.commit.recent(slot)
        batches, units = self.batch.recent(slot)
        turns = sum(batches)
        return Recent(
            self.lag.quantile(lags, 0.5),
            self.lag.quantile(lags, 0.99),
            self.commit.quantile(commits, 0.5),
            self.commit.quantile(commits, 0.99),
            units / turns if turns else None,
        )

    def known(self) -> Iterable[tuple[str, FunctionCounts]]:
        """Return the counts of each function, by its name; of UNKNOWN when there is anything to tell."""
        return [(name, counts) for name, counts in self.functions.items() if name != UNKNOWN or not counts.idle]
