"""One seed of simulated years: an app with crons on a real file, through kills, restarts, outages and wrong clocks.

Phases: lives, each ended by a kill or a stop, with time between them; one last life in which every run must end.  A
`Watch` judges every commit.  `simulated_us` is how much time passed, as the outside world has it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from actor_scheduler.crashpoints import POINTS
from actor_scheduler.crons.handle import Crons
from actor_scheduler.errors import InvalidCron, InvalidTime
from actor_scheduler.model import CRONS
from actor_scheduler.store.base import RunDue
from actor_scheduler.store.cron_units import ActivateCrons, CronUnit, StageCrons
from actor_scheduler.testing.clock import START_US
from actor_scheduler.testing.nonces import SeededNonces
from actor_scheduler.times import to_datetime
from runtime import App, Call, FunctionError
from runtime.invoker import CronInvoker
from tests.simulation import cron_functions, options
from tests.simulation.clock import SimClock
from tests.simulation.cron_plan import (
    DAY_US,
    HOUR_US,
    YEAR_US,
    Plan,
    changed,
    definition,
    job_of,
    options_of,
    schedule_of,
)
from tests.simulation.cron_rules import SECOND_US, Definition, Seen
from tests.simulation.cron_watch import Op, Watch
from tests.simulation.database import Faults, SimConnection, SimDb
from tests.simulation.loop import Crash, Idle, SimLoop, pass_time
from tests.simulation.observed import WatchedStore

_POINTS: Final = tuple(sorted(POINTS))
_CRON_POINTS: Final = tuple(point for point in _POINTS if point.startswith(("cron.", "manifest.", "turn.")))
_NOTICED_US: Final = 61 * SECOND_US  # a stepped clock, or one that a start did not believe, is noticed by then
_TURNS_MAX: Final = 1_000  # at one moment
_ROUNDS: Final = 60  # of letting runs end, in the last life
_SPRING: Final = tuple(START_US + span * HOUR_US for span in (65 * 24 + 20, 86 * 24 + 22, 302 * 24 + 20, 303 * 24 + 1))


class CronWorld:
    """Everything of one seed."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.path = folder / f"years-{plan.seed}.db"
        self.rng = random.Random(f"years world {plan.seed}")
        self.fired: Counter[str] = Counter()
        self.sometimes: Counter[str] = Counter()
        self.events: list[tuple[Any, ...]] = []
        self.findings: list[tuple[str, str]] = []
        self.watch = Watch(self.path)
        drawn = options.draw(plan.seed)
        chosen = replace(drawn, rates={}, spells=(), slow_us=0, early=min(drawn.early, 0.1), late=min(drawn.late, 0.1))
        self._late_us = _NOTICED_US if chosen.late else 0
        self.faults = Faults(chosen, self.fired)
        self.faults.die = self.die
        self.clock = SimClock(chosen, random.Random(f"years clock {plan.seed}"), self.fired)
        begin_us = self.rng.choice(_SPRING) if plan.dst else START_US + self.rng.randrange(2 * YEAR_US)
        self.clock.offset_us = begin_us
        self.clock.spins = lambda: self._find("alarm", "rings without an end")
        self._nonces = SeededNonces(plan.seed)
        self.connections: list[SimConnection] = []
        self.loop: SimLoop
        self.app: App[Any]
        self.store: WatchedStore | None = None
        self.turns = self.boots = 0
        self.units: list[Any] = []  # of the turn under way
        self.body_ops: list[Op] = []  # what bodies of mutations asked for in it
        self.wishes: list[tuple[Op, Callable[[Crons], Any]]] = []  # of a mutation that asks for many things
        self.manifest: dict[str, Definition] = {}
        self._versions: dict[int, dict[str, Definition]] = {}
        self._asked: list[Op] = []  # what the driver has just asked for
        self._staged: list[Op] = []
        self._begun = False  # a turn's transaction
        self._die_at: tuple[str, int] | None = None
        self._live: dict[str, str] = {}  # lane: the run in it
        self._mono_us = self._jumped_us = 0
        self._noticed_us = 0  # from then on, of the loop's time, every jump of the clock has been noticed
        self._highest_us = 0
        self.broken = ""  # the watch failed
        self._spun = (0, 0)  # a moment, and how many turns it had

    # ------------------------------------------------------------ what the simulated process uses

    def work_us(self) -> int:
        """Return the clock by which the store measures its own work."""
        return self.loop.mono_us

    def record(self, *what: Any) -> None:
        """Note an event."""
        self.events.append((self.clock.now_us(), *what))

    def _find(self, subject: str, what: str) -> None:
        self.record("finding", subject, what)
        self.findings.append((subject, what))

    def reached(self, point: str) -> None:
        """Follow the app from point to point: look at the file after each commit; kill it at the planned point."""
        if self.loop.crashed:
            raise Crash
        if point == "turn.begun":
            self._begun, self.body_ops = True, []
        elif point == "turn.committed" and self._begun:
            self._begun = False
            self._look()
        if self._die_at is not None and point == self._die_at[0]:
            self._die_at = (point, self._die_at[1] - 1)
            if self._die_at[1] == 0:
                self.sometimes[f"killed at {point}"] += 1
                self.die("at a point")

    def _look(self, *, maybe: bool = False) -> None:
        self._spun = (self.loop.mono_us, self._spun[1] + 1 if self._spun[0] == self.loop.mono_us else 1)
        if self._spun[1] > _TURNS_MAX:
            self._find("app", "runs turns without an end, and no time passes")
            self.die("as it spins")
        ops = [op for unit in self.units for op in self._ops_of(unit)]
        due = {unit.entry.seq: unit.entry.fire_at_us for unit in self.units if _fires(unit)}
        known = len(self.watch.findings)
        try:
            self.watch.look(self.clock.now_us(), [*ops, *self.body_ops], due, maybe=maybe)
        except Exception:  # the store would take it for a fault of its own
            self.broken = traceback.format_exc()
            raise
        for subject, what in self.watch.findings[known:]:
            self._find(subject, what)

    def _ops_of(self, unit: Any) -> list[Op]:
        if isinstance(unit, StageCrons):
            return [op._replace(at_us=unit.now_us) for op in self._staged]
        return self._asked if isinstance(unit, CronUnit | ActivateCrons) else []

    def ran(self, told: CronInvoker) -> None:
        """Note a run, and whether it is told what its row says."""
        run = self.watch.runs.get(told.job_id)
        self.record("run", told.cron, told.scheduled_at_us, told.attempt, told.job_id)
        if run is None:
            self._find(told.cron, f"the run {told.job_id} is of no commit")
            return
        window = told.catch_up_window
        said = (told.cron, told.scheduled_at_us, told.occurrence_id, told.skipped_ticks, told.source)
        source = "admin" if run.tick_us is None else "cron"
        if said != (run.cron, run.scheduled_at_us, run.occurrence, run.skipped, source):
            self._find(told.cron, f"a run is told {said}, and its row says {run}")
        if window != (run.window and (to_datetime(run.window[0]), to_datetime(run.window[1]))):
            self._find(told.cron, f"a run is told of the replay {window}, and its row says {run}")
        if told.dispatched_at_us < (run.tick_us or 0) and not self.fired["step back"]:
            self._find(told.cron, f"runs before its tick: {run}")

    @contextlib.contextmanager
    def running(self, told: CronInvoker) -> Iterator[None]:
        """Note a run of an action, from its start to its end: those of one lane take turns."""
        self.ran(told)
        run = self.watch.runs.get(told.job_id)
        lane = run.lane if run is not None else None
        if lane is not None and lane in self._live:
            self._find(told.cron, f"{told.job_id} runs while {self._live[lane]} does")
        if lane is not None:
            self._live[lane] = told.job_id
        try:
            yield
        finally:
            if lane is not None and self._live.get(lane) == told.job_id:
                del self._live[lane]

    # ------------------------------------------------------------ dying

    def die(self, kind: str) -> None:
        """Kill the simulated process. Raises Crash."""
        self.fired[f"kill {kind}"] += 1
        self.record("kill", kind)
        self.loop.crashed = True
        for connection in self.connections:
            connection.die()
        raise Crash

    def _bury(self) -> None:
        self.loop.crashed = True
        for connection in self.connections:
            connection.die()
        self.connections.clear()
        if self._begun:  # it may have committed in the moment it died
            self._begun = False
            self._look(maybe=True)
        self.loop.bury()
        if self.store is not None:
            self.store.release_as_kernel()
        self.app._engine = None
        self._live.clear()
        self.units, self.body_ops, self._asked = [], [], []
        self._die_at = None
        self._mono_us = self.loop.mono_us

    # ------------------------------------------------------------ lives

    def run(self) -> None:
        """Live all lives."""
        cron_functions.world = self
        for number in range(self.plan.crons):
            if self.rng.random() < 0.6:
                self.manifest[f"m{number}"] = definition(self.rng, self.plan, f"m{number}")
        longest = self.rng.randrange(self.plan.lives)
        for life in range(self.plan.lives):
            self._live_one(life)
            least_us = 300 * DAY_US if life == longest else SECOND_US
            self._mono_us += self._span_us(least_us, 400 * DAY_US)
            self._revise()
        self._live_one(self.plan.lives, last=True)
        self.watch.close()

    def _live_one(self, life: int, *, last: bool = False) -> None:
        plan = self.plan
        self.loop = SimLoop(self._mono_us, random.Random(f"years loop {plan.seed} {life}"), plan.order)
        self.clock.attach(self.loop)
        if last:
            self.clock.offset_us += max(self._highest_us - self.clock.now_us(), 0)
        self.store = None
        self.app = cron_functions.make_app(str(self.path), map(job_of, self.manifest.values()), manual=plan.manual)
        app = self.app
        app._clock, app._nonces, app._window_max, app._prunes = self.clock, self._nonces, plan.window_max, plan.prunes
        app._make_store = self._make_store
        self._staged = [] if plan.manual else [Op("stage", value=dict(self.manifest))]
        self.record("life", life)
        end = "stop" if last else self.rng.choice(plan.ends)
        calls = int(2 ** self.rng.uniform(6, 13)) if end == "kill after a call" else None
        self.faults.begin_life(calls_left=calls, after=True)
        if end == "kill at a point":
            point = self.rng.choice(_POINTS if self.rng.random() < 0.3 else _CRON_POINTS)
            self._die_at = (point, 1 if point.startswith("boot.") else int(2 ** self.rng.uniform(0, 6)))
        try:
            self.loop.live(self._last_life() if last else self._life(end))
        except Crash:
            pass
        except Idle:
            self._find("app", "somebody waits for what never happens")
        except Exception:
            if not self.broken:
                raise
        if self.broken:
            raise AssertionError(self.broken)
        self._highest_us = max(self._highest_us, self.clock.now_us())
        self._bury()

    def _make_store(self, *args: Any, **given: Any) -> WatchedStore:
        self.boots += 1
        world: Any = self
        self.store = WatchedStore(world, *args, make_db=lambda connector: SimDb(world, connector), **given)
        return self.store

    async def _start(self) -> None:
        self._noticed_us = self.loop.mono_us + _NOTICED_US  # the clock may not be believed at first
        await self.app._start()
        staged = self.app.crons.staged
        if staged is not None and staged.version:
            self._versions[staged.version] = dict(self.manifest)

    async def _life(self, end: str) -> None:
        await self._start()
        for _ in range(self.rng.randint(2, 10)):
            await self._calm()
            if self.plan.events:
                await self._event(self.rng.choice(self.plan.events))
        await self._calm()
        if end == "stop":
            self.record("stop")
            await self.app._stop()
        else:
            self.die("between passes")

    async def _last_life(self) -> None:
        await self._start()
        await self._calm()
        await pass_time(2 * _NOTICED_US)
        self._check_rest()
        for name in list(self.watch.by_name()):
            await self._do(Op("pause", name), self.app.crons.pause(name))
        for _ in range(_ROUNDS):
            if not self.watch.unfinished():
                break
            await pass_time(max(self.plan.apart_us * 10, 200 * SECOND_US))
        for subject, what in self.watch.end(pruned=self.plan.prunes):
            self._find(subject, what)
        await self.app._stop()

    async def _calm(self) -> None:
        """Let time pass, with a few ticks in it."""
        rate = sum(1 / _apart_us(row, self.clock.now_us()) for row in self.watch.rows.values() if row.fires)
        ticks = self.rng.uniform(0.1, 1) * (150 if self.rng.random() < 0.03 else 10)
        await pass_time(min(int(ticks / rate), 90 * DAY_US) if rate else self._span_us(SECOND_US, 30 * DAY_US))
        self._highest_us = max(self._highest_us, self.clock.now_us())
        self._check_rest()

    def _check_rest(self) -> None:
        if self.loop.mono_us >= self._noticed_us:
            for subject, what in self.watch.at_rest(self.clock.now_us() - self._late_us):
                self._find(subject, what)

    def _span_us(self, least_us: int, most_us: int) -> int:
        return int(least_us * (most_us / least_us) ** self.rng.random())

    # ------------------------------------------------------------ events

    async def _event(self, event: str) -> None:
        self.fired[event] += 1
        if event in ("suspend", "step forward", "step back"):
            span_us = self._span_us(SECOND_US, 4 * DAY_US if event == "step back" else 120 * DAY_US)
            self._jumped_us += span_us if event == "suspend" else 0
            self.record(event, span_us)
            self._highest_us = max(self._highest_us, self.clock.now_us())
            self.clock.step(-span_us if event == "step back" else span_us)
            self._noticed_us = self.loop.mono_us + 2 * _NOTICED_US
            return
        if event == "many":
            await self._many()
        elif event == "activate":
            await self._activate()
        elif event == "dispatch":
            await self._dispatch()
        elif (wish := self._wish(event, self.watch.by_name())) is not None:
            await self._do(wish[0], wish[1](self.app.crons))

    async def _do(self, op: Op, asking: Any) -> Any:
        self.record("ask", op)
        self._asked = [op]
        answer = await asking
        self._asked = []
        if op.do == "delete" and answer != (op.value is not None):
            self._find(op.name, f"was deleted: {answer}")
        return answer

    def _wish(self, event: str, there: dict[str, Seen]) -> tuple[Op, Callable[[Crons], Any]] | None:
        """Return something to ask of a cron, and how to ask for it."""
        rng = self.rng
        own = [name for name, row in there.items() if row.origin == "runtime"]
        if event == "register" or (event == "many" and not there):
            name = f"r{rng.randrange(self.plan.crons)}"
            row = there.get(name)
            told = definition(rng, self.plan, name) if row is None else changed(rng, self.plan, row.definition)
            return Op("put", name, told), lambda crons: _register(crons, told)
        if not there:
            return None
        name = rng.choice(own if own and event in ("again", "update", "delete") else list(there))
        row = there[name]
        if row.origin == "manifest" and event in ("again", "update", "delete"):
            return None
        match event:
            case "again":
                return Op("put", name, row.definition), lambda crons: _register(crons, row.definition)
            case "update":
                told = changed(rng, self.plan, row.definition)
                anew = told.when != row.definition.when or rng.random() < 0.3
                return Op("anew" if anew else "change", name, told), lambda crons: _update(crons, told, anew=anew)
            case "delete":
                return Op("delete", name, row), lambda crons: crons.delete(name)
            case "pause":
                return Op("pause", name), lambda crons: crons.pause(name, note="for a while")
            case "resume":
                name = rng.choice([name for name, row in there.items() if row.paused] or [name])
                return Op("resume", name), lambda crons: crons.resume(name)
            case "run by hand":
                at_us = rng.choice((None, self.clock.now_us() - HOUR_US, self.clock.now_us() + HOUR_US))
                when = None if at_us is None else to_datetime(at_us)
                return Op("run", name, at_us), lambda crons: crons.run_now(name, scheduled_at=when)
        return None

    async def _many(self) -> None:
        """Ask for several things of different crons, in one mutation that may fail at its end."""
        there, self.wishes = self.watch.by_name(), []
        for _ in range(self.rng.randint(1, 4)):
            event = self.rng.choice(("register", "again", "update", "delete", "pause", "resume", "run by hand"))
            wish = self._wish(event, there)
            if wish is not None and wish[0].name not in {op.name for op, _ in self.wishes}:
                self.wishes.append(wish)
        fails = self.rng.random() < 0.4
        self.record("many", fails, [op for op, _ in self.wishes])
        with contextlib.suppress(FunctionError):
            await self.app.call(cron_functions.many, fails=fails)
        self.sometimes["rolled back" if fails else "many at once"] += 1

    async def _activate(self) -> None:
        if self._versions:
            version = self.rng.choice(list(self._versions))
            await self._do(Op("stage", value=self._versions[version]), self.app.crons.activate(version))

    async def _dispatch(self) -> None:
        """An outside clock sends a tick, and some again, or later than a newer one."""
        for name in [name for name, row in self.watch.by_name().items() if row.definition.external]:
            sent = []
            for _ in range(self.rng.randint(1, 3)):
                at_us = self.rng.choice((None, self.clock.now_us() - self._span_us(1, 3 * DAY_US), *sent))
                sent.append(at_us)
                await self._dispatch_one(name, at_us)
        if self.rng.random() < 0.2:
            for name, row in self.watch.by_name().items():
                if not row.definition.external:
                    with contextlib.suppress(InvalidCron):
                        await self.app.crons.dispatch(name)
                        self._find(name, "was dispatched, and fires by itself")

    async def _dispatch_one(self, name: str, at_us: int | None) -> None:
        row = self.watch.by_name().get(name)
        if row is None or not row.definition.external:
            return  # it was changed meanwhile, by a run of its own
        nominal = None if at_us is None else to_datetime(at_us)
        answer = await self._do(Op("dispatch", name, at_us), self.app.crons.dispatch(name, nominal=nominal))
        self.sometimes[f"dispatch {answer.status}"] += 1
        tick_us = row.ticks.before((self.clock.now_us() if at_us is None else at_us) + 1)
        if answer.tick != (None if tick_us is None else to_datetime(tick_us)):
            self._find(name, f"was snapped to {answer.tick}")
        fresh = tick_us is not None and tick_us > row.watermark_us
        ran = answer.job_id in self.watch.runs and self.watch.runs[answer.job_id].tick_us == tick_us
        if (answer.status == "accepted") != (fresh and ran) or (answer.status == "duplicate" and fresh):
            self._find(name, f"dispatch of {nominal} gave {answer}; it stood at {row}")
        with contextlib.suppress(InvalidTime):
            await self.app.crons.dispatch(name, nominal=to_datetime(self.clock.now_us() + HOUR_US))
            self._find(name, "took a tick that is yet to come")

    def _revise(self) -> None:
        """Another release: its code defines some crons otherwise."""
        for _ in range(self.rng.choice((0, 0, 1, 1, 3))):
            name = f"m{self.rng.randrange(self.plan.crons)}"
            if name not in self.manifest:
                self.manifest[name] = definition(self.rng, self.plan, name)
            elif self.rng.random() < 0.3:
                del self.manifest[name]
            else:
                self.manifest[name] = changed(self.rng, self.plan, self.manifest[name])

    # ------------------------------------------------------------ what came of it

    @property
    def simulated_us(self) -> int:
        """How much time has passed: steps of the clock are none."""
        return self._mono_us + self._jumped_us

    def trace_hash(self) -> str:
        """Return a digest of everything that happened, in order."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.events, sorted(self.watch.runs.values()), sorted(self.watch.dropped.items())):
            digest.update(repr(part).encode())
        return digest.hexdigest()


def _fires(unit: Any) -> bool:
    return isinstance(unit, RunDue) and unit.queue == CRONS


def _apart_us(row: Seen, now_us: int) -> float:
    every_us = row.definition.when.every_us
    return every_us or 30 * DAY_US / max(row.ticks.count(now_us - 30 * DAY_US, now_us), 1)


def _register(crons: Crons, told: Definition) -> Any:
    return crons.register(told.name, schedule_of(told), told.path, {"n": told.n}, **options_of(told))


def _update(crons: Crons, told: Definition, *, anew: bool) -> Any:
    target, schedule = Call(told.path, {"n": told.n}), schedule_of(told) if anew else None
    return crons.update(told.name, schedule=schedule, target=target, **options_of(told))
