"""Races of two to four processes for one file: who owns it, when, and for how long."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import select
import signal
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from tests.crash.lives import Nursery, clean
from tests.owner.racer import After, Racer

RACERS_MAX: Final = 4
BOUND_S: Final = 30.0  # a racer that says nothing for this long hangs
_PATIENCE_S: Final = 60.0  # of one that waits for its turn: never over
_FRESH: Final = 0.3  # of the races are for a file that does not exist yet


class Contestant:
    """One racer, as the parent sees it."""

    def __init__(self, nursery: Nursery, racer: Racer, plan: Path) -> None:
        self._nursery = nursery
        self.name = racer.name
        self.pid, out = nursery.begin(racer.save(plan))
        self._out = open(out, "rb", buffering=0)
        self._rest = b""
        self._reaped = False
        self.told: dict[str, int] = {}  # when it last said what

    def says(self) -> list[Any] | None:
        """Return what it says next: a word, the moment in ns, and more; None when it has ended."""
        while b"\n" not in self._rest:
            if not select.select([self._out], [], [], BOUND_S)[0]:
                msg = f"{self.name} has said nothing for {BOUND_S:g} s"
                raise TimeoutError(msg)
            block = self._out.read(1 << 16)
            if not block:
                return None
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        said: list[Any] = json.loads(line)
        self.told[said[0]] = said[1]
        return said

    def until(self, *words: str) -> list[Any]:
        """Return what it says once it says one of these words."""
        while (said := self.says()) is not None:
            if said[0] in words:
                return said
        msg = f"{self.name} ended without saying any of {words}, having said {list(self.told)}"
        raise EOFError(msg)

    def everything(self) -> list[list[Any]]:
        """Return all it says up to its end."""
        return list(iter(self.says, None))

    def send(self, number: int) -> None:
        """Send it a signal. It is not reaped before we ask for it, so its pid is its own."""
        os.kill(self.pid, number)

    def end(self) -> int:
        """Return its exit status; one that still runs is killed."""
        if not self._reaped:
            self._reaped = True
            with self._out:
                if self.says_nothing_more():
                    return os.waitstatus_to_exitcode(self._nursery.reap())
                self.send(signal.SIGKILL)
                return os.waitstatus_to_exitcode(self._nursery.reap())
        return 0

    def has_said_anything(self) -> bool:
        """Whether it has said something that was not listened to yet."""
        return bool(self._rest) or bool(select.select([self._out], [], [], 0)[0])

    def says_nothing_more(self) -> bool:
        """Whether it has closed its end, without waiting for it."""
        while select.select([self._out], [], [], 0)[0]:
            if not self._out.read(1 << 16):
                return True
        return False


class Track:
    """A folder with one file to race for, and somebody who can fork each of the racers."""

    def __init__(self, folder: Path, nurseries: Sequence[Nursery]) -> None:
        self._folder = folder
        self._nurseries = nurseries
        self.db = folder / "app.db"
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove the file."""
        clean(self._folder)

    @contextmanager
    def line_up(self, ends: Sequence[After], *, patience_s: float = 0.0, beside: int = 0) -> Iterator[list[Contestant]]:
        """Start a racer for each of the ends it is to come to, and let them all go at once; end them afterwards.

        `beside` is how many run already.
        """
        gate = self._folder / "gate"
        gate.touch()
        lined_up: list[Contestant] = []
        with contextlib.ExitStack() as ending, open(gate, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            for nursery, end in zip(self._nurseries[beside:], ends, strict=False):
                self._count += 1
                racer = Racer(
                    name=f"racer {self._count}", db=str(self.db), gate=str(gate), patience_s=patience_s, after=end
                )
                contestant = Contestant(nursery, racer, self._folder / f"racer{self._count}.json")
                ending.callback(contestant.end)
                lined_up.append(contestant)
            for contestant in lined_up:
                contestant.until("ready")
            fcntl.flock(held, fcntl.LOCK_UN)
            yield lined_up

    def entries(self) -> list[str]:
        """Return who wrote into the file. Nobody may own it."""
        with closing(sqlite3.connect(self.db)) as file:
            assert [text for (text,) in file.execute("PRAGMA integrity_check")] == ["ok"]
            return [racer for (racer,) in file.execute("SELECT racer FROM entries ORDER BY rowid")]


@contextmanager
def track(folder: Path) -> Iterator[Track]:
    """Make a track for up to RACERS_MAX racers."""
    with contextlib.ExitStack() as stack:
        nurseries = [
            stack.enter_context(Nursery(folder / f"nursery{at}.log", "tests.owner.racer")) for at in range(RACERS_MAX)
        ]
        yield Track(folder / "track", nurseries)


# ------------------------------------------------------------------ races


@dataclass(slots=True)
class Report:
    """The figures of a campaign."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    handover_s: dict[str, list[float]] = field(default_factory=lambda: {"leaves": [], "dies": []})
    seconds: float = 0.0

    def text(self) -> str:
        """Return the figures for people."""
        counts = "\n".join(f"  {name:40}{count:6}" for name, count in sorted(self.counts.items()))
        took = "\n".join(
            f"  the owner {how}: p50 {statistics.median(values):.3f} s, max {max(values):.3f} s, {len(values)} times"
            for how, values in self.handover_s.items() if values
        )  # fmt: skip
        wrong = "\n".join(f"  {what}" for what in self.wrong)
        return f"{counts}\nuntil the next one owned the file\n{took}\n{len(self.wrong)} wrong\n{wrong}\n{self.seconds:.1f} s"


def run(seed: int, races: int, folder: Path) -> Report:
    """Run races of both kinds, on a file that is there already, or not yet."""
    rng = random.Random(seed)
    report, began = Report(), time.perf_counter()
    with track(folder) as here:
        for number in range(races):
            if number and rng.random() < _FRESH:
                here.clear()
            count = rng.randint(2, RACERS_MAX)
            report.counts["races"] += 1
            report.counts[f"races of {count}"] += 1
            if number % 2 == 0:
                _for_all_or_nothing(here, count, rng.choice((signal.SIGTERM, signal.SIGKILL)), report)
            else:
                _in_turn(here, rng.choices(("leaves", "dies"), k=count), report)
    report.seconds = time.perf_counter() - began
    return report


def _for_all_or_nothing(here: Track, count: int, end: signal.Signals, report: Report) -> None:
    """Nobody waits: one owns the file, the others are refused, and only then the owner goes."""
    with here.line_up(["stays"] * count) as racers:
        said = {racer: racer.until("owns", "refused") for racer in racers}
        owners = [racer for racer, first in said.items() if first[0] == "owns"]
        if len(owners) != 1:
            report.wrong.append(f"{len(owners)} of {count} own the file")
        for racer, first in said.items():
            if racer not in owners and first[2] != "DatabaseLocked":
                report.wrong.append(f"{racer.name} was refused with {first[2:]}")
        report.counts["owners"] += len(owners)
        report.counts["refused"] += count - len(owners)
        for racer in owners:
            racer.until("waits")
            racer.send(end)
            racer.everything()
            if racer.end() != (0 if end == signal.SIGTERM else -end):
                report.wrong.append(f"{racer.name} ended in another way than by {end.name}")
    names = [racer.name for racer in owners]
    if here.entries()[-len(names) :] != names:
        report.wrong.append(f"what {names} wrote is not there")


def _in_turn(here: Track, ends: Sequence[After], report: Report) -> None:
    """Everybody waits: each owns the file once, and never two at a time, however the one before ended."""
    with here.line_up(ends, patience_s=_PATIENCE_S) as racers:
        said = {racer: racer.everything() for racer in racers}
        for racer, end in zip(racers, ends, strict=True):
            owned = [what[0] for what in said[racer]].count("owns")
            if owned != 1:
                report.wrong.append(f"{racer.name} owned the file {owned} times: {said[racer]}")
            if racer.end() != (0 if end == "leaves" else -signal.SIGKILL):
                report.wrong.append(f"{racer.name} did not end as told: {end}")
    order = sorted((racer for racer in racers if "lets go" in racer.told), key=lambda racer: racer.told["owns"])
    for before, after in pairwise(order):
        passed_ns = after.told["owns"] - before.told["lets go"]
        if passed_ns < 0:
            report.wrong.append(f"{after.name} owned the file before {before.name} let go of it")
        report.handover_s[ends[racers.index(before)]].append(passed_ns / 1e9)
    report.counts["owners in turn"] += len(order)
    report.counts["owners that died"] += ends.count("dies")
    names = [racer.name for racer in order]
    if here.entries()[-len(names) :] != names:
        report.wrong.append(f"what {names} wrote is not there in this order")
