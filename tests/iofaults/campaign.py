"""Every I/O call of every scenario fails, one after the other, until a run passes without a fault."""

from __future__ import annotations

import asyncio
import errno
import gc
import itertools
import multiprocessing
import os
import select
import shutil
import signal
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.crash.crons import prepare
from tests.crash.history import History
from tests.crash.rules import Violation
from tests.iofaults import planted
from tests.iofaults.rules import Ended, judge
from tests.iofaults.scenarios import FINDS, SCENARIOS, Fault, Files, Mode, Run, read_told
from tests.powerloss.judge import Judge
from tests.powerloss.lives import checkpoint_often
from tests.shim import control
from tests.shim.control import Calls

ERRORS: Final = (errno.EIO, errno.ENOSPC)
_PATIENCE_SECONDS: Final = 30.0
_NTH_MAX: Final = 2_000
_SPARSER: Final = {"cron": 4}  # a scenario that makes so many times the calls of others is strided so much wider


@dataclass(frozen=True, slots=True)
class Sweep:
    """One loop: the first call of a class fails, then the second, and so on; or every `stride`-th of them."""

    files: Files
    scenario: str
    calls: Calls
    error: int
    mode: Mode
    first: int = 1
    stride: int = 1

    def __str__(self) -> str:
        return f"{self.files} {self.scenario} {self.calls.name.lower()} {errno.errorcode[self.error]} {self.mode.name.lower()}"


@dataclass(slots=True)
class Report:
    """The figures of a campaign, or of a part of it."""

    failed: Counter[str] = field(default_factory=Counter)  # calls, by scenario and class
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[str, int, Violation]] = field(default_factory=list)  # the sweep, and which call
    seconds: float = 0.0

    def add(self, other: Report) -> None:
        """Take in another part."""
        self.failed.update(other.failed)
        self.counts.update(other.counts)
        self.violations.extend(other.violations)

    def text(self) -> str:
        """Return the figures for people."""
        failed = "\n".join(f"  {what:34}{count:6}" for what, count in sorted(self.failed.items()))
        counts = "\n".join(f"  {what:34}{count:6}" for what, count in sorted(self.counts.items()))
        bad = "\n".join(f"  {sweep} {nth}: {v.rule.name} {v.subject} {v.detail}" for sweep, nth, v in self.violations)
        runs = self.counts["runs"]
        rate = runs / self.seconds if self.seconds else 0.0
        return (
            f"calls failed\n{failed}\ncounts\n{counts}\n{len(self.violations)} violations\n{bad}\n"
            f"{runs} runs in {self.seconds:.1f} s: {rate:.0f} runs/s"
        )


def sweeps(stride: int = 1, seed: int = 0) -> list[Sweep]:
    """Return every loop there is. A stride leaves calls out, other ones in each loop and for each seed."""
    found = []
    for at, kind in enumerate(itertools.product(Files, SCENARIOS, Calls, ERRORS, Mode)):
        each = stride * _SPARSER.get(kind[1], 1) if stride > 1 else 1
        found.append(Sweep(*kind, first=1 + (at + seed) % each, stride=each))
    return found


def run(chosen: Sequence[Sweep], folder: Path, *, jobs: int = 2, wrong: str | None = None) -> Report:
    """Run these loops, in several processes. `wrong` plants a bug, as tests.iofaults.planted names it."""
    began = time.perf_counter()
    checkpoint_often()
    prepare()
    found = {name: _prepare(folder, name) for name in FINDS}
    if wrong is not None:
        planted.plant(wrong)
    gc.freeze()  # what is imported is not copied into each child
    total = Report()
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        scenarios = sorted({(sweep.files, sweep.scenario) for sweep in chosen})
        made = dict(zip(scenarios, pool.starmap(_calls_made, [(*which, folder) for which in scenarios]), strict=True))
        # A class of which there is no call without a fault can't be the first to fail.
        tasks = [(sweep, folder, found) for sweep in chosen if made[sweep.files, sweep.scenario][sweep.calls.name]]
        for part in pool.imap_unordered(_run_sweep, tasks):
            total.add(part)
    total.seconds = time.perf_counter() - began
    return total


def _calls_made(files: Files, scenario: str, folder: Path) -> dict[str, int]:
    home = _home(folder, scenario)
    return _child(home, SCENARIOS[scenario], Fault(files, Calls.WRITE, errno.EIO, Mode.FOR_EVER, _NTH_MAX)).calls


def _home(folder: Path, scenario: str) -> Path:
    """Return a folder of this process's own, with what the scenario finds."""
    home = folder / str(os.getpid())
    shutil.rmtree(home / "run", ignore_errors=True)
    (home / "run").mkdir(parents=True)
    (home / "starts").unlink(missing_ok=True)
    if (folder / scenario).exists():
        shutil.copytree(folder / scenario, home / "run", dirs_exist_ok=True)
        shutil.copy(folder / f"{scenario}-starts", home / "starts")
    return home


def _run_sweep(task: tuple[Sweep, Path, Mapping[str, History]]) -> Report:
    sweep, folder, found = task
    return sweep_through(sweep, folder, found)


def sweep_through(sweep: Sweep, folder: Path, found: Mapping[str, History]) -> Report:
    """Run one loop to its end. `found` is what was told before, by scenario."""
    report = Report()
    judged = Judge(folder / str(os.getpid()) / "judged")
    with asyncio.Runner() as runner:
        for nth in range(sweep.first, _NTH_MAX + sweep.stride, sweep.stride):
            home = _home(folder, sweep.scenario)
            before = replace(found.get(sweep.scenario, History()))
            ended = _child(
                home, SCENARIOS[sweep.scenario], Fault(sweep.files, sweep.calls, sweep.error, sweep.mode, nth)
            )
            report.counts["runs"] += 1
            image = {path.name: path.read_bytes() for path in (home / "run").iterdir()}
            content = runner.run(judged.look(image, (home / "starts").read_bytes()))
            bad = judge(before, ended, content, heals=sweep.mode is not Mode.FOR_EVER)
            report.violations.extend((str(sweep), nth, violation) for violation in bad)
            for event in ended.told:
                if event[0] == "answer":
                    report.counts[f"answers: {event[2]}"] += 1
                elif event[0] == "start":
                    report.counts["starts refused"] += 1
            if not ended.fired and not ended.hung:
                return report  # the scenario passed without a fault: there is no such call
            report.failed[f"{sweep.files} {sweep.scenario} {sweep.calls.name.lower()}"] += 1
    msg = f"{sweep} does not come to its end"
    raise AssertionError(msg)


def _prepare(folder: Path, scenario: str) -> History:
    """Make what a scenario finds, without any fault, and return what was told meanwhile."""
    home = _home(folder, f"before {scenario}")
    ended = _child(home, FINDS[scenario], None)
    assert ended.status == 0, f"what {scenario} finds could not be made: {ended}"
    shutil.copytree(home / "run", folder / scenario, ignore=shutil.ignore_patterns("*-shm"))
    shutil.copy(home / "starts", folder / f"{scenario}-starts")
    history = History()
    for event in ended.told:
        history.take(event)
    return history


def _child(home: Path, life: Callable[[Run], Awaitable[None]], fault: Fault | None) -> Ended:
    """Live in a forked child: through a scenario when there is a fault, else only what `life` says."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            os.close(ours)
            control.watch(home / "run")
            asyncio.run(_live(Run(home / "run", home / "starts", theirs, fault), life))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(theirs)
    told, hung = b"", False
    with open(ours, "rb", buffering=0) as pipe:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            left = max(deadline - time.monotonic(), 0)
            if not hung and not select.select([pipe], [], [], left)[0]:
                hung = True
                os.kill(pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            block = pipe.read(1 << 16)
            if not block:
                break
            told += block
    _, status = os.waitpid(pid, 0)
    return Ended(read_told(told), os.waitstatus_to_exitcode(status), hung)


async def _live(run: Run, life: Callable[[Run], Awaitable[None]]) -> None:
    await (life(run) if run.fault is None else run.live(life))
