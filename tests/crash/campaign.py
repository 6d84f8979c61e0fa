"""Many kills: series of lives on one file each, every life ended by SIGKILL, the file judged at the end."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from actor_scheduler import codec
from actor_scheduler.crashpoints import POINTS
from actor_scheduler.ids import format_id
from tests.crash import crons
from tests.crash.checker import check
from tests.crash.cron_history import AT, CronRun, CronsLeft, CronState, Skip, Ticking
from tests.crash.crons import VERSIONS
from tests.crash.history import History, JobRow, Trace, plain
from tests.crash.lives import Ended, Nursery, clean
from tests.crash.plan import Plan
from tests.crash.rules import Violation

CHILDREN: Final = 2  # at once
_SERIES: Final = 20  # lives on one file
_TRIES: Final = 3  # of a point that the workload did not reach often enough: each nearer to its first reach
_REACHES: Final = 9  # a point is drawn to kill at its first to ninth reach, unless it is passed once in a life
_ONCE: Final = ("boot.", "shutdown.", "manifest.")
_BOOT: Final = tuple(sorted(point for point in POINTS if point.startswith("boot.")))
_LINES: Final = 90  # a random kill comes after the first to ninetieth line of a child
_FINISH_SECONDS: Final = 20.0
_SLOTS: Final = 100  # for actions; every fourth series has one

_OUTAGES_US: Final = (0, 400_000, 70_000_000)  # before a life: none, one that ticks fall into, one that they miss
_OUTAGES: Final = (80, 15, 5)

_JOBS: Final = (
    "SELECT seq, nonce, path, kind, state, args, scheduled_at_us, started_at_us, cause, error, key,"
    " idempotency_key, result, attempt, created_at_us, completed_at_us, lane FROM _scheduler_jobs WHERE cron IS NULL"
)
_CRON_RUNS: Final = (
    "SELECT seq, nonce, cron, kind, state, tick_us, cause, attempt, created_at_us, coalesce(completed_at_us, 0), lane"
    " FROM _scheduler_jobs WHERE cron IS NOT NULL"
)
_CRON_LOG: Final = (
    "SELECT change, name, spec, anchor_us, watermark_us, fire_at_us, paused_at_us IS NOT NULL, note, trouble"
    " FROM cron_log ORDER BY number"
)
_LOGGED: Final = "SELECT count(*) FROM sqlite_schema WHERE name = 'cron_log'"
_SKIPS: Final = "SELECT cron, reason, first_tick_us, last_tick_us, ticks FROM _scheduler_skips"

_ATTEMPTS: Final = (
    "SELECT job_seq, nonce, tried.attempt, ended_at_us FROM _scheduler_attempts AS tried"
    " JOIN _scheduler_jobs ON job_seq = seq"
)


@dataclass(frozen=True, slots=True)
class Kill:
    """Where one life ends: at the n-th reach of a point, or at any moment after n lines."""

    point: str | None
    after: int
    tries: int = 1


@dataclass(slots=True)
class Report:
    """The figures of a campaign, or of a part of it."""

    kills: Counter[str] = field(default_factory=Counter)  # by point; "random" for the others
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, Violation]] = field(default_factory=list)  # with the seed of their series
    troubles: list[str] = field(default_factory=list)  # children that ended as no child should
    seconds: float = 0.0

    @property
    def killed(self) -> int:
        """How many lives ended by SIGKILL."""
        return self.kills.total()

    def add(self, other: Report) -> None:
        """Take in another part."""
        self.kills.update(other.kills)
        self.counts.update(other.counts)
        self.violations.extend(other.violations)
        self.troubles.extend(other.troubles)

    def unreached(self) -> list[str]:
        """Return the points at which nobody was killed."""
        return sorted(POINTS - self.kills.keys())

    def text(self) -> str:
        """Return the figures for people."""
        by_point = "\n".join(f"  {point:32}{count:6}" for point, count in sorted(self.kills.items()))
        counts = "\n".join(f"  {name:32}{count:6}" for name, count in sorted(self.counts.items()))
        rate = self.killed / self.seconds if self.seconds else 0.0
        bad = "\n".join(f"  seed {seed}: {v.rule.name} {v.subject} {v.detail}" for seed, v in self.violations)
        wrong = "\n".join(f"  {trouble}" for trouble in self.troubles)
        return (
            f"kills\n{by_point}\ncounts\n{counts}\nnever reached: {', '.join(self.unreached()) or 'none'}\n"
            f"{len(self.troubles)} children in trouble\n{wrong}\n{len(self.violations)} violations\n{bad}\n"
            f"{self.killed} kills in {self.seconds:.1f} s: {rate:.1f} kills/s"
        )


# ------------------------------------------------------------------ planning


def plan_kills(seed: int, total: int) -> list[list[Kill]]:
    """Return series of kills: every point in turn, a third at random moments, and some boots killed again and again."""
    rng = random.Random(seed)
    points = sorted(POINTS)
    directed = [_at(rng, points[at % len(points)]) for at in range(max(total * 2 // 3, len(points)))]
    anywhere = [Kill(None, rng.randint(1, _LINES)) for _ in range(max(total - len(directed), 0))]
    kills = [*directed, *anywhere]
    rng.shuffle(kills)
    series = [kills[at : at + _SERIES] for at in range(0, len(kills), _SERIES)]
    for (
        lives
    ) in series:  # a recovery that dies on the way, again and again, must leave the next one nothing to trip over
        at = rng.randint(1, len(lives))
        lives[at:at] = [Kill(rng.choice(_BOOT), 1) for _ in range(4)]
    return series


def _at(rng: random.Random, point: str) -> Kill:
    return Kill(point, 1 if point.startswith(_ONCE) else rng.randint(1, _REACHES))


# ------------------------------------------------------------------ running


def run(seed: int, kills: int, folder: Path) -> Report:
    """Run a whole campaign, with as many children at once as CHILDREN says."""
    began = time.perf_counter()
    total = Report()
    waiting = deque(enumerate(plan_kills(seed, kills)))

    def work(name: str) -> Report:
        part = Report()
        home = folder / name
        home.mkdir(parents=True)
        with Nursery(folder / f"{name}.log") as nursery:
            while waiting:
                try:
                    number, lives = waiting.popleft()
                except IndexError:  # the other one was quicker
                    break
                part.add(run_series(lives, first_plan(home, seed * 10_000 + number), nursery))
        return part

    with ThreadPoolExecutor(CHILDREN) as pool:
        for part in pool.map(work, [f"child{at}" for at in range(CHILDREN)]):
            total.add(part)
    total.seconds = time.perf_counter() - began
    return total


def first_plan(folder: Path, seed: int) -> Plan:
    """Return what all lives of a series have in common."""
    workers, calls = ((4, 10), (12, 4))[seed // 2 % 2]  # few or many calls share a turn
    db, starts = str(folder / "crash.db"), str(folder / "starts")
    slots = 1 if seed % 4 == 3 else _SLOTS
    return Plan(
        db=db, starts=starts, seed=seed, auth=seed % 2 == 1, workers=workers, calls=calls, slots=slots, rich=True,
        manifest=seed % VERSIONS,
    )  # fmt: skip


def run_series(kills: Iterable[Kill], first: Plan, nursery: Nursery, *, last: Plan | None = None) -> Report:
    """Run one life after the other on one file, then one that is left to finish, and judge the file.

    `last` is what that one is like, when it is not like the others.  The folder is emptied first, and keeps the file
    for whoever wants to look at it.
    """
    folder = Path(first.db).parent
    clean(folder)
    report, history, waiting = Report(), History(), deque(kills)
    life = 0
    while waiting:
        kill = waiting.popleft()
        ended = _live(first, life, kill, history, nursery)
        _note(report, first.seed, life, kill, ended)
        if kill.point is not None and not ended.killed and kill.tries < _TRIES:
            waiting.append(replace(kill, after=max(kill.after // 3, 1), tries=kill.tries + 1))
        life += 1
    finish = replace(at_life(last or first, life), slots=_SLOTS)
    if finish.finish_within_s is None:
        finish = replace(finish, finish_within_s=_FINISH_SECONDS)
    ended = nursery.live(finish.save(folder / "plan.json"))
    for event in ended.events:
        history.take(event)
    _note(report, first.seed, life, None, ended)
    read_out(history, Path(first.db), Path(first.starts))
    report.violations = [(first.seed, violation) for violation in check(history)]
    _count(report, history)
    return report


def _live(first: Plan, life: int, kill: Kill, history: History, nursery: Nursery) -> Ended:
    resend = [plain(ask) for ask in history.unacknowledged()]
    ids = [
        ack for op, acks in history.answers.items() if history.asks[op][0][0].cron is None
        for a in acks if a.verdict == "ack" for ack in _ids(a.value)
    ]  # fmt: skip
    lost = random.Random(f"{first.seed} {life}")
    resend.extend(  # an acknowledgement may be lost on the way: some that were received are sent again as well
        plain(sent[0][0]) for op, sent in history.asks.items() if sent[0][0].idem and lost.random() < 0.03
    )
    plan = replace(
        at_life(first, life), resend=resend, targets=ids[-20:], crons=registered(history), die_at=kill.point,
        die_after=kill.after,
    )  # fmt: skip
    ended = nursery.live(plan.save(Path(first.db).with_name("plan.json")), kill.after if kill.point is None else None)
    for event in ended.events:
        history.take(event)
    return ended


def at_life(first: Plan, life: int) -> Plan:
    """Return the plan of one life: the versions of its crons change, and at times there is an outage before it."""
    if first.manifest is None:
        return replace(first, life=life)
    version, ahead_us = first.manifest, 0
    for at in range(1, life + 1):
        rng = random.Random(f"{first.seed} life {at}")
        version = rng.randrange(VERSIONS) if rng.random() < 0.4 else version
        ahead_us += rng.choices(_OUTAGES_US, _OUTAGES)[0]
    return replace(first, life=life, manifest=version, ahead_us=ahead_us)


def registered(history: History) -> list[str]:
    """Return the crons that somebody was told are registered."""
    sent = (asks[0][0] for asks in history.asks.values())
    return [ask.cron for ask in sent if ask.do == "register" and ask.cron is not None and history.acks(ask.op)]


def _ids(value: object) -> list[str]:
    if isinstance(value, str) and len(value) == 32:
        return [value]
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _note(report: Report, seed: int, life: int, kill: Kill | None, ended: Ended) -> None:
    if ended.killed and kill is not None:
        report.kills[kill.point or "random"] += 1
    elif ended.hung or ended.signal or ended.status:
        how = "hung" if ended.hung else f"ended with {ended.status}"
        report.troubles.append(f"seed {seed}, life {life}, {kill}: {how}")
    else:
        report.counts["lives that ended by themselves"] += 1


# ------------------------------------------------------------------ reading out


def read_out(history: History, db: Path, starts: Path) -> None:
    """Add what the file and the starts say. No child may be running."""
    with closing(sqlite3.connect(db)) as file:
        history.file_errors = [
            *(text for (text,) in file.execute("PRAGMA integrity_check") if text != "ok"),
            *(f"foreign key: {row}" for row in file.execute("PRAGMA foreign_key_check")),
        ]
        history.rows = [_row(values) for values in file.execute(_JOBS)]
        history.failed_us = {
            (format_id(seq, nonce), attempt): at_us for seq, nonce, attempt, at_us in file.execute(_ATTEMPTS)
        }
        set_to = file.execute("SELECT value FROM _scheduler_meta WHERE name = 'set:pool:side'").fetchone()
        history.pool = set_to[0] if set_to is not None else None
        effects = [Trace(*values) for values in file.execute("SELECT op, job, at_us FROM effects")]
        logged = file.execute(_CRON_LOG).fetchall() if file.execute(_LOGGED).fetchone()[0] else []
        runs = [CronRun(format_id(seq, nonce), *values) for seq, nonce, *values in file.execute(_CRON_RUNS)]
        skips = [Skip(*values) for values in file.execute(_SKIPS)]
    lines = starts.read_text(encoding="utf-8").split("\n")[:-1] if starts.exists() else []
    started = [
        Trace(op, job, int(at_us), int(attempt)) for op, job, at_us, attempt in (line.split(" ") for line in lines)
    ]
    history.effects = [trace for trace in effects if AT not in trace.op]
    history.starts = [trace for trace in started if AT not in trace.op]
    history.crons = CronsLeft(
        [
            CronState(change, name, Ticking.of(spec), anchor, upto, fire, bool(paused), *more)
            for change, name, spec, anchor, upto, fire, paused, *more in logged
        ],
        runs,
        skips,
        [trace for trace in effects if AT in trace.op],
        [trace for trace in started if AT in trace.op],
    )


def _row(values: Sequence[Any]) -> JobRow:
    seq, nonce, _, kind, state, args, scheduled_at_us, started_at_us, cause, error, key, idem, result, *more = values
    body = codec.decode(args)["body"]
    gave = codec.decode(result) if isinstance(result, bytes) else None
    canceled = isinstance(gave, dict) and bool(gave.get("canceled"))
    return JobRow(
        format_id(seq, nonce),
        body["op"],
        kind,
        state,
        scheduled_at_us,
        started_at_us,
        cause,
        error,
        key,
        idem,
        canceled,
        *more,
    )


def _count(report: Report, history: History) -> None:
    counts = report.counts
    counts["files"] += 1
    counts["calls"] += sum(len(sent) for sent in history.asks.values())
    for op, answers in history.answers.items():
        do = history.asks[op][0][0].do
        for answer in answers:
            counts[f"answers: {answer.verdict}"] += 1
            counts["ids of rolled-back jobs"] += len(answer.leaked)
            if do == "cancel" and answer.verdict == "ack":
                running = " of what runs" if history.asks[op][0][0].running else ""
                counts[f"cancel{running}: {answer.value}"] += 1
            if answer.verdict == "refused":
                counts[f"refused: {answer.value}"] += 1
    counts["calls never answered"] += sum(
        len(sent) - len(history.answers.get(op, ())) for op, sent in history.asks.items()
    )
    # A call that died unanswered and whose resend was acknowledged: the row may be the first sending's.
    counts["resent until acknowledged"] += sum(
        1 for op, sent in history.asks.items()
        if sent[0][0].idem and len(sent) > len(history.answers.get(op, ())) and history.acks(op)
    )  # fmt: skip
    counts["jobs"] += len(history.rows)
    counts["effects"] += len(history.effects)
    counts["action starts"] += len(history.starts)
    for row in history.rows:
        counts[f"jobs: {row.state}{f' ({row.cause})' if row.cause and row.state != 'pending' else ''}"] += 1
        counts["jobs in lanes"] += row.lane is not None
        counts["jobs tried again"] += row.attempt > 1
    _count_crons(counts, history)
    known = {row.id for row in history.rows}
    counts["jobs forgotten"] += sum(
        job_id not in known for op, sent in history.asks.items() for ack in history.acks(op) for job_id in _ids(ack)
        if sent[0][0].do == "schedule"
    )  # fmt: skip


def _count_crons(counts: Counter[str], history: History) -> None:
    left = history.crons
    counts["crons: changes of a row"] += len(left.log)
    counts["crons: registered"] += sum(state.change == "insert" and crons.END in state.name for state in left.log)
    counts["crons: deleted"] += sum(state.change == "delete" for state in left.log)
    counts["crons: ticks that ran"] += sum(run.tick_us is not None for run in left.runs)
    counts["crons: runs by hand"] += sum(run.tick_us is None for run in left.runs)
    for run in left.runs:
        counts[f"runs: {run.kind} {run.state}{f' ({run.cause})' if run.cause else ''}"] += 1
    for skip in left.skips:
        counts[f"ticks skipped: {skip.reason}"] += skip.ticks
        counts[f"stretches skipped: {skip.reason}"] += 1
