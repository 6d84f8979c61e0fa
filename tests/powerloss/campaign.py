"""Many power cuts: lives of a real app, cut at every change they make to their files, and what is left judged."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.crash.campaign import registered
from tests.crash.crons import VERSIONS, prepare
from tests.crash.history import History, plain
from tests.crash.rules import Violation
from tests.powerloss.disk import Cut, Disk, Image
from tests.powerloss.judge import Judge
from tests.powerloss.lives import NOTES, STARTS, Setting, live
from tests.powerloss.rules import broken
from tests.shim.log import Event

LIVES: Final = 3  # in a row, each on what a cut left of the one before
_CUTS: Final = (Cut.DROPPED, Cut.REORDERED, Cut.TORN)
_FINISH_EVERY: Final = 40  # images: one of so many is run on to the end, not only opened
_MAPPED: Final = ("-shm", "-blame")  # written through memory: not in the log


@dataclass(frozen=True, slots=True)
class Case:
    """One life as it was lived: threads decide the order of its changes, so only this gives the same images again."""

    setting: Setting
    image: Image  # what it began on
    history: History  # what was told up to then
    starts: bytes  # what was started up to then
    committed: Collection[str]
    log: Sequence[Event]


@dataclass(slots=True)
class Report:
    """The figures of a campaign, or of a part of it."""

    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, Violation]] = field(default_factory=list)  # with where to find them
    cases: list[Case] = field(default_factory=list)  # the lives in which there were any
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        """Take in another part."""
        self.counts.update(other.counts)
        self.violations.extend(other.violations)
        self.cases.extend(other.cases)

    def text(self) -> str:
        """Return the figures for people."""
        counts = "\n".join(f"  {name:34}{count:8}" for name, count in sorted(self.counts.items()))
        bad = "\n".join(f"  {where}: {v.rule.name} {v.subject} {v.detail}" for where, v in self.violations[:40])
        rate = self.counts["images"] / self.seconds if self.seconds else 0.0
        return (
            f"{counts}\n{len(self.violations)} violations\n{bad}\n"
            f"{self.counts['images']} images in {self.seconds:.1f} s: {rate:.0f} images/s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one process does of a campaign: every n-th series, until it has its images."""

    seed: int
    images: int
    number: int
    of: int
    folder: Path
    wrong: str | None = None


def run(seed: int, images: int, folder: Path, *, jobs: int = 2, wrong: str | None = None) -> Report:
    """Run a whole campaign in several processes, until there are as many images as asked for.

    `wrong` plants a bug: `sync_lies`, `synchronous_off`, or one of tests.crash.planted; a series in which it is found is the last.
    """
    began = time.perf_counter()
    prepare()
    shares = [
        Share(seed=seed, images=-(-images // jobs), number=at, of=jobs, folder=folder / str(at), wrong=wrong)
        for at in range(jobs)
    ]
    total = Report()
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for part in pool.map(run_share, shares):
            total.add(part)
    total.seconds = time.perf_counter() - began
    return total


def run_share(share: Share) -> Report:
    """Run one process's part."""
    total = Report()
    for number in itertools.count(share.number, share.of):
        lives = settings(share.seed * 1_000 + number)
        if share.wrong == "synchronous_off":
            lives = [replace(setting, synchronous="OFF", sync_fails=None) for setting in lives]
        elif share.wrong is not None:
            plant = None if share.wrong == "sync_lies" else share.wrong
            lives = [replace(setting, synchronous="FULL", sync_fails=None, planted=plant) for setting in lives]
        if share.wrong is not None:
            lives = [replace(setting, workers=4, calls=2) for setting in lives]  # a bug shows at once
        series = Series(share.folder, lies=share.wrong == "sync_lies")
        total.add(series.run(lives))
        enough = total.counts["images"] >= share.images and number >= share.of  # each process has two series at least
        if enough or (share.wrong is not None and total.violations):
            return total
    return total


def run_again(case: Case, folder: Path) -> Report:
    """Judge one life's images once more: the same ones."""
    prepare()
    series = Series(folder)
    asyncio.run(series.cut_everywhere(case))
    return series.report


def settings(seed: int) -> list[Setting]:
    """Return the lives of one series. One in four is lived with NORMAL, one has syncs that fail; one in three no crons."""
    rng = random.Random(seed)
    first = rng.randrange(VERSIONS) if seed % 3 else None
    workers, calls = ((4, 2), (8, 1), (1, 6))[seed // 2 % 3]  # few, many or no calls share a turn
    lives = [
        Setting(
            seed=seed, life=at, workers=workers, calls=calls, auth=rng.random() < 0.5,
            manifest=None if first is None else (first + at // 2) % VERSIONS,
        ) for at in range(LIVES)
    ]  # fmt: skip
    if seed % 4 == 3:
        return [replace(setting, synchronous="NORMAL") for setting in lives]
    if seed % 4 == 1:
        return [replace(setting, sync_fails=rng.randint(8, 24)) for setting in lives]
    return lives


class Series:
    """Lives in a row, each on an image of the one before; every image of all of them is judged."""

    def __init__(self, folder: Path, *, lies: bool = False) -> None:
        self.report = Report()
        self._lived = folder / "lived"
        self._judge = Judge(folder / "judged")
        self._lies = lies
        self._image: Image = {}  # what the next life finds
        self._history = History()
        self._starts = b""
        self._committed: set[str] = set()

    def run(self, lives: Sequence[Setting]) -> Report:
        """Run the lives, and return what came of them."""
        with asyncio.Runner() as runner:
            for setting in lives:
                jobs = [op for op, sent in self._history.asks.items() if sent[0][0].cron is None]
                acks = [answer for op in jobs for answer in self._history.acks(op)]
                if self.report.violations:
                    break  # a life on a broken file would show nothing more
                log = live(
                    self._lived, self._image, setting,
                    resend=[plain(ask) for ask in self._history.unacknowledged()],
                    targets=[ack for ack in acks if isinstance(ack, str) and len(ack) == 32][-20:],
                    crons=registered(self._history),
                )  # fmt: skip
                self._check_log(log)
                self.report.counts["lives"] += 1
                self.report.counts["lives begun on what a cut left"] += setting.life > 0
                self.report.counts.update(f"events: {event.kind.name.lower()}" for event in _changes(log))
                runner.run(
                    self.cut_everywhere(Case(setting, self._image, self._history, self._starts, self._committed, log))
                )
        return self.report

    def _check_log(self, log: Sequence[Event]) -> None:
        """Assert that the log, played from the beginning, gives the files that are there: nothing escapes it."""
        disk = Disk(self._image)
        for event in _changes(log):
            disk.apply(event)
        there = {
            path.name: path.read_bytes()
            for path in self._lived.iterdir()
            if path.name not in NOTES and not path.name.endswith(_MAPPED)
        }
        played = {name: data for name, data in disk.read().items() if not name.endswith(_MAPPED)}
        assert played == there, f"the log misses changes of {[n for n in there if there[n] != played.get(n)]}"

    async def cut_everywhere(self, case: Case) -> None:
        """Judge an image, or two, at every change that a life made; choose the one on which the next life begins."""
        setting, log = case.setting, case.log
        self._image, self._history, self._committed = case.image, copy.deepcopy(case.history), set(case.committed)
        self._starts = case.starts
        before = len(self.report.violations)
        rng = random.Random(f"{setting.seed} {setting.life}")
        disk = Disk(self._image, seed=setting.seed, lies=self._lies)
        next_at = rng.choice([at for at, event in enumerate(log) if event.name not in NOTES])
        next_cut = rng.choice(list(Cut))
        base: tuple[Image, History, bytes] | None = None
        for at, event in enumerate([*log, None]):
            if event is not None and event.name in NOTES:
                self._note(event)
                continue
            for cut in (Cut.KEPT,) if disk.settled else (Cut.KEPT, rng.choice(_CUTS)):
                where = f"seed {setting.seed}, life {setting.life}, event {at}, {cut}"
                await self._judge_one(where, cut, disk.after(cut, rng), setting, rng)
            if at == next_at:
                base = disk.after(next_cut, rng), copy.deepcopy(self._history), self._starts
            if event is not None:
                disk.apply(event)
        if len(self.report.violations) > before:
            self.report.cases.append(case)
        assert base is not None
        self._image, self._history, self._starts = base

    def _note(self, event: Event) -> None:
        if event.name == STARTS:
            self._starts += event.data
        else:
            for line in event.data.splitlines():
                self._history.take(json.loads(line))

    async def _judge_one(self, where: str, cut: Cut, image: Image, setting: Setting, rng: random.Random) -> None:
        counts = self.report.counts
        content = await self._judge.look(image, self._starts)
        if cut is Cut.KEPT:
            self._committed.add(content.state)
        durable = setting.synchronous != "NORMAL"
        found = broken(self._history, content, self._committed, durable=durable)
        counts["images"] += 1
        counts[f"images: {cut}"] += 1
        counts["ticks accounted for"] += len(content.left.crons.runs) + sum(s.ticks for s in content.left.crons.skips)
        counts[f"images: {setting.synchronous}"] += 1
        counts["acknowledgements checked"] += sum(len(self._history.acks(op)) for op in self._history.asks)
        if durable and not found and counts["images"] % _FINISH_EVERY == 0:
            counts["images run on to the end"] += 1
            found = await self._judge.finish(image, self._starts, self._history)
        self.report.violations.extend((where, violation) for violation in found)


def _changes(log: Iterable[Event]) -> Iterator[Event]:
    return (event for event in log if event.name not in NOTES)
