"""One seed: an app on a real file, virtual time, faults, crashes, and everything that was seen of it.

Phases: lives with faults, each ended by a crash or a stop; one healed life in which everything due must end; reading
out.  The checker judges what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from actor_scheduler import codec
from actor_scheduler.crashpoints import POINTS
from actor_scheduler.errors import ActorSchedulerError
from actor_scheduler.ids import format_id
from actor_scheduler.testing.nonces import SeededNonces
from runtime import App, FunctionError, OutcomeUnknown, PartiallyScheduled
from tests.proof.history import (
    Answer,
    Ask,
    Body,
    CronRow,
    CronTrace,
    Finding,
    History,
    JobRow,
    Sent,
    SkipRow,
    TickRow,
    Trace,
)
from tests.simulation import functions
from tests.simulation.clients import Clients
from tests.simulation.clock import SimClock
from tests.simulation.database import Faults, SimConnection, SimDb
from tests.simulation.functions import POOL
from tests.simulation.loop import SECOND_US, Crash, Idle, SimLoop, pass_time
from tests.simulation.observed import WatchedStore, check_index
from tests.simulation.options import Options

_STARTS_MAX: Final = 12
_POINTS: Final = tuple(sorted(POINTS))
_ONCE: Final = ("boot.", "shutdown.")
_DOWN_US: Final = (0, 1_000, 3 * SECOND_US, 3_600 * SECOND_US, 40 * 86_400 * SECOND_US)
_SETTLE_US: Final = 120 * SECOND_US
_PATIENCE: Final = 4  # of settling rounds in which nothing ended
_INDEX_LOOKS_MAX: Final = 15  # of one seed
_FIRES_MAX: Final = 1_000  # at one moment: there are three crons at most
_JOBS: Final = (
    "SELECT seq, nonce, kind, state, args, scheduled_at_us, fire_at_us, started_at_us, completed_at_us, attempt,"
    " cause, error, key, idempotency_key, result FROM _scheduler_jobs WHERE cron IS NULL"
)
_CRONS: Final = (
    "SELECT name, created_at_us, anchor_us, watermark_us, skipped, fire_at_us, trouble FROM _scheduler_crons"
)
_TICKS: Final = (
    "SELECT seq, nonce, cron, tick_us, scheduled_at_us, created_at_us, state, cause, attempt, occurrence_id, cron_run"
    " FROM _scheduler_jobs WHERE cron IS NOT NULL"
)
_SKIPS: Final = "SELECT cron, reason, first_tick_us, last_tick_us, ticks FROM _scheduler_skips"
_BUSY: Final = "SELECT count(*) FROM _scheduler_jobs WHERE cron IS NOT NULL AND state IN ('pending', 'in_progress')"


class World:
    """Everything of one seed. `sometimes` counts the rare conjunctions that the campaign must have seen."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.path = folder / f"{options.seed}.db"
        self.fired: Counter[str] = Counter()
        self.sometimes: Counter[str] = Counter()
        self.crashed_at: Counter[str] = Counter()
        self.boots = 0
        troubled = bool(options.rates or options.spells)
        steady = not (options.steps or options.late)
        prompt = steady and options.rates.keys().isdisjoint(("delay", "late answer"))
        self.history = History(in_order=options.order == "fifo" and not troubled, steady=steady, prompt=prompt)
        self.events: list[tuple[Any, ...]] = []
        self.faults = Faults(options, self.fired)
        self.faults.die = self.die
        self.faults.on_fault = self._on_fault
        self.faults.mono_us = lambda: self.loop.mono_us
        self.clock = SimClock(options, random.Random(f"clock {options.seed}"), self.fired)
        self.clock.spins = lambda: self.history.findings.append(Finding("SPINS", "alarm", "rings without an end"))
        self.connections: list[SimConnection] = []
        self.store: WatchedStore | None = None
        self.app: App[Any]
        self.loop: SimLoop
        self.rng = random.Random(f"world {options.seed}")
        self.clients = Clients(self)
        self.runs = 0  # of mutations' bodies
        self.turns = 0
        self.units: list[Any] = []  # of the turn under way
        self._nonces = SeededNonces(options.seed)
        self._live: dict[str, int] = {}  # of the jobs whose action runs right now: which attempt it is
        self._live_lanes: dict[str, str] = {}
        self._live_places: dict[str, str] = {}
        self.paused_at_us: int | None = None  # since when nothing may be dispatched
        self._in_body = False
        self._retrying = False  # a failed attempt is being written, and another follows
        self._claims = ""  # how far the claims of the turn under way are: "written", "committed"
        self._die_at: tuple[str, int] | None = None
        self._passes_left: int | None = None
        self._index_looks = _INDEX_LOOKS_MAX
        self._firing = (0, 0)  # a moment, and how many crons fired at it
        self._work_us = 0
        self._mono_us = 0
        self.index_checks = 0

    # ------------------------------------------------------------ what the simulated process uses

    def record(self, *what: Any) -> int:
        """Note an event, and return its number."""
        self.events.append((self.loop.mono_us, *what))
        return len(self.events)

    def work_us(self) -> int:
        """Return the clock by which the store measures its own work."""
        if self.options.slow_us:
            self._work_us += self.rng.randrange(self.options.slow_us)
        return self.loop.mono_us + self._work_us

    def note_mutation(self, told: Body, invoker: Any) -> None:
        """Note that a mutation's body begins."""
        job: str | None = getattr(invoker, "job_id", None)
        if job is None:
            return
        if told.lane is not None and told.lane in self._live_lanes.values():
            self._find("LANE", told.op, f"runs while another job of lane {told.lane} does")
        self._check_paused(told.op, invoker)

    @contextlib.contextmanager
    def running(self, op: str, invoker: Any, told: Body) -> Iterator[int]:
        """Note a run of an action from its start to its end."""
        job: str | None = getattr(invoker, "job_id", None)
        attempt: int = getattr(invoker, "attempt", 1)
        order = self.record("start", op, job, attempt)
        said = (getattr(invoker, "scheduled_at_us", 0), getattr(invoker, "occurrence_id", ""))
        trace = Trace(op, job, self.clock.high_us(), attempt, order, self.turns, self.loop.mono_us, *said)
        self.history.starts.append(trace)
        if job is not None:
            self._begin_run(op, job, invoker, told)
        try:
            yield attempt
        finally:
            for live in (self._live, self._live_lanes, self._live_places):
                live.pop(job or "", None)
            self.record("end", op, job, attempt)

    def _begin_run(self, op: str, job: str, invoker: Any, told: Body) -> None:
        if job in self._live:
            self._find("TWO_LIVE", op, f"attempt {invoker.attempt} while another one runs")
        if told.lane is not None and told.lane in self._live_lanes.values():
            self._find("LANE", op, f"runs while another job of lane {told.lane} does")
        self._live[job] = invoker.attempt
        self._live_places[job] = told.place
        if told.lane is not None:
            self._live_lanes[job] = told.lane
        places = Counter(self._live_places.values())
        most = {"pool": POOL, "single": 1}.get(told.place, self.options.slots)
        if places[told.place] > most or places.total() > self.options.slots:
            self._find("OVER_LIMIT", op, f"{dict(places)} run at once, of {self.options.slots} slots")
        self._check_paused(op, invoker)

    def _check_paused(self, op: str, invoker: Any) -> None:
        """What is dispatched after somebody was told that the app pauses breaks that promise."""
        if self.paused_at_us is not None and self.history.steady and invoker.dispatched_at_us > self.paused_at_us:
            self._find("PAUSED", op, f"dispatched {invoker.dispatched_at_us - self.paused_at_us} us into the pause")

    def _find(self, rule: str, subject: str, detail: str) -> None:
        self.history.findings.append(Finding(rule, subject, detail))

    def reached(self, point: str) -> None:
        """Follow the app from point to point; kill it at the planned one."""
        if self.loop.crashed:
            raise Crash
        if point == "mutation.savepoint":
            self._in_body = True
        elif point in ("mutation.body_done", "mutation.failed_rolled_back"):
            self._in_body = False
        elif point == "retry.before":
            self._retrying = True
        elif point == "turn.replied":
            self._retrying = False
        elif point == "claim.written":
            self._claims = "written"
        elif point == "turn.committed" and self._claims:
            self._claims = "committed"
        elif point in ("action.before_start", "turn.before_begin"):
            self._claims = ""
        elif point == "cron.before":
            at_us, times = self._firing
            self._firing = (self.loop.mono_us, times + 1 if at_us == self.loop.mono_us else 1)
            if self._firing[1] > _FIRES_MAX:
                self.loop.give_up()
        elif point == "alarm.armed" and self._index_looks > 0:
            self._index_looks -= 1
            self.history.findings.extend(check_index(self))
        if self._die_at is not None and point == self._die_at[0]:
            self._die_at = (point, self._die_at[1] - 1)
            if self._die_at[1] == 0:
                self.crashed_at[point] += 1
                self.die("at a point")

    def _on_fault(self, name: str) -> None:
        self.record("fault", name)
        if name == "interrupted":
            self.history.interrupted = True
        if name in ("transaction lost", "interrupted") and self._in_body:
            self.sometimes["a transaction lost inside a mutation"] += 1
        if name == "busy at begin" and any(type(unit).__name__ == "CompleteJob" for unit in self.units):
            self.sometimes["busy while a completion is written"] += 1

    # ------------------------------------------------------------ dying

    def die(self, kind: str) -> None:
        """Kill the simulated process: from here on nothing it does is seen by anybody. Raises Crash."""
        self.fired[f"crash {kind}"] += 1
        self.record("crash", kind)
        if self._claims == "committed":
            self.sometimes["a crash between a claim's commit and its start"] += 1
        if any(attempt > 1 for attempt in self._live.values()) or self._retrying:
            self.sometimes["a retry interrupted by a crash"] += 1
        self.loop.crashed = True
        for connection in self.connections:
            connection.die()
        raise Crash

    def _before_pass(self) -> None:
        if self._passes_left is not None:
            self._passes_left -= 1
            if self._passes_left == 0:
                self.die("between passes")

    def _bury(self) -> None:
        """Clear away what is left of a process: what the kernel would do."""
        self.loop.crashed = True
        for connection in self.connections:
            connection.die()
        self.connections.clear()
        self.loop.bury()
        if self.store is not None:
            self.store.release_as_kernel()
        self.app._engine = None
        for live in (self._live, self._live_lanes, self._live_places):
            live.clear()
        self._in_body, self._claims, self._retrying, self.units = False, "", False, []
        self._die_at = self._passes_left = None
        self._mono_us = self.loop.mono_us

    # ------------------------------------------------------------ lives

    def run(self) -> None:
        """Live all lives, and read out."""
        functions.world = self
        for life in range(self.options.lives):
            self._begin_life(life)
            self._plan_end()
            try:
                self.loop.live(self._troubled_life(life))
            except Crash:
                pass
            except Idle:
                self.history.findings.append(Finding("HANGS", f"life {life}", "somebody waits for what never happens"))
            self._bury()
            self._snapshot()
            self._mono_us += self.rng.choice(_DOWN_US)
        self.faults.heal()
        self._begin_life(self.options.lives)
        self.clock.heal()
        self._index_looks += 8
        try:
            self.loop.live(self._last_life())
        except Idle:
            self.history.findings.append(Finding("HANGS", "the last life", "somebody waits for what never happens"))
        self._bury()
        self._snapshot()
        self._read_out()

    def _begin_life(self, life: int) -> None:
        seed = self.options.seed
        self.loop = SimLoop(self._mono_us, random.Random(f"loop {seed} {life}"), self.options.order)
        self.loop.before_pass = self._before_pass
        self.clock.attach(self.loop)
        self.store = None
        self.app = functions.make_app(str(self.path), self.options)
        self.app._clock = self.clock
        self.app._nonces = self._nonces
        self.app._window_max = self.options.window_max
        self.app._prunes = False  # what is left is read at the end
        self.app._make_store = self._make_store
        self.record("life", life)

    def _make_store(self, *args: Any, **options: Any) -> WatchedStore:
        self.boots += 1
        self.store = WatchedStore(self, *args, make_db=lambda connector: SimDb(self, connector), **options)
        return self.store

    def _plan_end(self) -> None:
        rng = self.rng
        kind = rng.choice((*self.options.crashes, "none"))
        calls_left = int(2 ** rng.uniform(2, 11)) if kind.endswith("a call") else None
        self.faults.begin_life(calls_left=calls_left, after=kind == "after a call")
        if kind == "between passes":
            self._passes_left = int(2 ** rng.uniform(1, 10))
        elif kind == "at a point":
            point = rng.choice(_POINTS)
            self._die_at = (point, 1 if point.startswith(_ONCE) else int(2 ** rng.uniform(0, 5)))

    async def _start(self) -> bool:
        for tries in range(_STARTS_MAX):
            try:
                await self.app._start()
            except ActorSchedulerError as error:
                self.record("no start", type(error).__name__)
                await pass_time(2**tries * SECOND_US)
            else:
                return True
        return False

    async def _troubled_life(self, life: int) -> None:
        if not await self._start():
            return
        trouble = asyncio.create_task(self._step_clocks())
        await self.clients.live(life)
        await pass_time(self.clients.linger_us())
        trouble.cancel()
        stops = self.rng.random() < 0.5 or (self._die_at is not None and self._die_at[0].startswith("shutdown."))
        if stops:
            self.record("stop")
            await self.app._stop(kill=self.rng.random() < 0.2 and self._die_at is None)

    async def _step_clocks(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(0, 4) if self.options.steps else 0):
            await pass_time(self.clients.linger_us() / 4)
            kind = rng.choice(self.options.steps)
            size_us = rng.choice((1, 1_000, SECOND_US, 90 * SECOND_US, 3_600 * SECOND_US, 86_400 * SECOND_US))
            if kind == "step back":
                size_us = -size_us
            elif kind == "suspend":
                size_us *= 7
            self.fired[f"clock: {kind}"] += 1
            self.record("clock", kind, size_us)
            self.clock.step(size_us)

    async def _last_life(self) -> None:
        if not await self._start():
            self.history.findings.append(Finding("HANGS", "the last life", "the app does not start though all is well"))
            return
        self.paused_at_us = None
        await self.app.scheduler.resume()
        await self.app.scheduler.set_pool("pool", None)
        self.history.healed_us = self.clock.now_us()
        await self.clients.live_on()
        await self._settle()
        await self._rest_crons()
        await self.app._stop()

    async def _rest_crons(self) -> None:
        """Let crons catch up, once the start believes the clock, and their runs end."""
        await pass_time(_SETTLE_US)
        for _ in range(_PATIENCE * 20):
            with closing(sqlite3.connect(self.path, isolation_level=None)) as file:
                if not file.execute(_BUSY).fetchone()[0]:
                    break
            await pass_time(SECOND_US)
        self.history.crons.rested_us = self.clock.now_us() - SECOND_US

    async def _settle(self) -> None:
        """Let time pass until every job has ended, or nothing has ended for a few rounds."""
        before, rounds = None, 0
        while rounds < _PATIENCE:
            with closing(sqlite3.connect(self.path, isolation_level=None)) as file:
                count, last_us = file.execute(
                    "SELECT count(*), max(fire_at_us) FROM _scheduler_jobs WHERE state IN ('pending', 'in_progress')"
                    " AND cron IS NULL"
                ).fetchone()
                done = file.execute("SELECT count(*), max(seq) FROM _scheduler_jobs WHERE cron IS NULL").fetchone()
            if not count:
                return
            rounds = rounds + 1 if before == (count, last_us, done) else 0
            before = (count, last_us, done)
            wait_us = max(last_us - self.clock.now_us(), 0) + _SETTLE_US
            await pass_time(wait_us)

    # ------------------------------------------------------------ calls of clients

    async def send(self, ask: Ask, call: Any) -> Any:
        """Make one call and note what came of it; return what was acknowledged, or None."""
        order = self.record("ask", ask.op, ask.do)
        self.history.sent.setdefault(ask.op, []).append(Sent(ask, self.clock.now_us(), order))
        leaked: tuple[str, ...] = ()
        verdict: Any = "ack"
        value: Any = None
        try:
            value = await call(ask)
        except FunctionError as error:  # the mutation's own, planned failure: definite
            verdict, value, leaked = "refused", error.code, tuple((error.data or {}).get("ids", ()))
        except (OutcomeUnknown, PartiallyScheduled, TimeoutError) as error:
            verdict, value = "unknown", type(error).__name__
        except ActorSchedulerError as error:
            verdict, value = "refused", type(error).__name__
        except Exception as error:  # nothing else may come out of the public API
            verdict, value = "error", repr(error)
        order = self.record("answer", ask.op, verdict, value)
        self.history.answers.setdefault(ask.op, []).append(Answer(verdict, value, leaked, order))
        return value if verdict == "ack" else None

    def calling(self, op: str) -> None:
        """Note that a call is really made now: the clock may have been set back since it was asked for."""
        sent = self.history.sent[op]
        sent[-1] = sent[-1]._replace(at_us=min(sent[-1].at_us, self.clock.now_us()))

    # ------------------------------------------------------------ reading out

    def _snapshot(self) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as file:
            try:
                rows = file.execute(
                    "SELECT seq, nonce, state, attempt FROM _scheduler_jobs WHERE cron IS NULL"
                ).fetchall()
            except sqlite3.OperationalError:
                return  # it died before it had tables
            self.history.snapshots.append({format_id(row[0], row[1]): (row[2], row[3]) for row in rows})
            damage = [text for (text,) in file.execute("PRAGMA quick_check") if text != "ok"]
            damage += [f"foreign key: {row}" for row in file.execute("PRAGMA foreign_key_check")]
        self.history.file_errors = [*self.history.file_errors, *damage]

    def _read_out(self) -> None:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as file:
            self.history.rows = [_row(values) for values in file.execute(_JOBS)]
            self.history.effects = [
                Trace(*values) for values in file.execute("SELECT op, job, at_us, attempt, n, turn FROM effects")
            ]
            self._read_crons(file)

    def _read_crons(self, file: sqlite3.Connection) -> None:
        book, plans = self.history.crons, {plan.job.name: plan for plan in functions.crons_of(self.options)}
        book.rows = [
            CronRow(
                name, plans[name].when, "mutation" if plans[name].path == "sim:cron_tick" else "action",
                functions.CRON_ATTEMPTS, functions.CRON_JITTER_US, *values,
            )
            for name, *values in file.execute(_CRONS)
        ]  # fmt: skip
        book.ticks = [_tick(values) for values in file.execute(_TICKS)]
        book.skips = [SkipRow(*values) for values in file.execute(_SKIPS)]
        book.effects = [CronTrace(*values) for values in file.execute("SELECT * FROM cron_effects")]

    @property
    def fires(self) -> int:
        """How many bodies of jobs ran and left their trace."""
        crons = self.history.crons
        return len(self.history.starts) + len(self.history.effects) + len(crons.starts) + len(crons.effects)

    @property
    def simulated_us(self) -> int:
        """How much virtual time has passed."""
        return self._mono_us

    def trace_hash(self) -> str:
        """Return a digest of everything that happened, in order."""
        digest = hashlib.blake2b(digest_size=16)
        history = self.history
        for part in (self.events, history.effects, history.rows, history.crons, history.findings):
            digest.update(repr(part).encode())
        return digest.hexdigest()


def _tick(values: Any) -> TickRow:
    seq, nonce, *rest, note = values
    told: Any = codec.decode(note) if note is not None else [0]
    return TickRow(format_id(seq, nonce), *rest, told[0])


def _row(values: Any) -> JobRow:
    seq, nonce, kind, state, args, *rest, result = values
    told = codec.decode(args)
    op = told["body"]["op"] if "body" in told else f"{told['op']}.{told['left']}"
    gave = codec.decode(result) if isinstance(result, bytes) else None
    canceled = isinstance(gave, dict) and bool(gave.get("canceled"))
    return JobRow(format_id(seq, nonce), op, kind, state, *rest, canceled=canceled)
