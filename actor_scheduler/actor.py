"""The scheduler actor: the one writer of an app.

Everything that changes state is a command in its mailbox.  One turn at a time takes what has collected there, and what
is due, to the store; while that turn commits, the next one collects: that is group commit.  Replies are released,
actions started and the alarm set only after the commit that holds them: that is the output gate.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import TYPE_CHECKING, Any

from actor_scheduler.admission import check_admission
from actor_scheduler.alarm import Alarm
from actor_scheduler.attempts import Attempts
from actor_scheduler.clock import Clock, pause
from actor_scheduler.clock_wait import ClockWait
from actor_scheduler.crashpoints import reach
from actor_scheduler.dispatch import Dispatch
from actor_scheduler.errors import ActorSchedulerError, NotStarted, StoreUnavailable, WriterStuck, said
from actor_scheduler.failures import log_drops
from actor_scheduler.first import take_first
from actor_scheduler.hold import HOLD_US_MAX, HOLD_US_MIN, Hold
from actor_scheduler.limits import ACTIONS_MAX, SECOND_US, STUCK_SECONDS, TURN_COMMANDS_MAX, WINDOW_MAX
from actor_scheduler.mailbox import Command, Mailbox
from actor_scheduler.preparation import Preparation
from actor_scheduler.pruning import Pruning
from actor_scheduler.replies import Replies
from actor_scheduler.settings import Settings
from actor_scheduler.shield import to_the_end
from actor_scheduler.stirs import Stirs
from actor_scheduler.store.base import (
    Claimed,
    CompleteJob,
    Done,
    Effects,
    Fired,
    Host,
    Ran,
    Refused,
    Reply,
    RunDue,
    Set,
    Store,
    TurnResult,
    Unit,
)
from actor_scheduler.turn_watch import TurnWatch
from actor_scheduler.watchers import Watchers
from actor_scheduler.witness import Nobody, Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from actor_scheduler.model import DueJob, Outcome

log = logging.getLogger("actor_scheduler")


class Actor:
    """One per app. Used from one event loop."""

    def __init__(
        self,
        store: Store,
        host: Host,
        clock: Clock,
        *,
        slots: int = ACTIONS_MAX,
        window_max: int = WINDOW_MAX,
        stuck_seconds: float = STUCK_SECONDS,
        on_stuck: Callable[[], object] | None = None,
        prunes: bool = True,
        ticks: bool = True,
        first: Sequence[Unit] = (),
    ) -> None:
        """Make an actor; `first` must be durable before anything is dispatched. Without `ticks` no cron fires."""
        self._wake = asyncio.Event()
        self.stirring = Stirs()
        self._stirred = self.stirring.event()
        self._store = store
        self._host = host
        self._clock = clock
        self.dispatch = Dispatch(host.routing, slots, window_max, ticks=ticks)
        self.settings = Settings(host.routing)
        self._pruning = Pruning(enabled=prunes)
        self.attempts = Attempts(
            host, clock, ended=self._attempt_ended, freed=self._attempt_freed, stirred=self.stirring.tell
        )
        self._alarm = Alarm(clock, self._wake.set)
        self._preparation = Preparation(store, host, self._wake.set, self._not_prepared)
        self._mailbox = Mailbox()
        self._hold = Hold(clock)
        self._replies = Replies(self._mailbox, self.settings, host)
        self.watchers = Watchers()
        self.witness: Witness = Nobody()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self.accepting = False  # commands from outside: started, and not told to stop
        self._dispatching = False  # due jobs
        self._running = False
        self._watch = TurnWatch(stuck_seconds, store.busy_with, self._is_stuck)
        self._clock_wait = ClockWait(clock)
        self._on_stuck = on_stuck
        self._first = first
        self.first_answers: list[Any] = []  # to `first`, once started
        self.broken: ActorSchedulerError | None = None  # why nothing is accepted: the store must be reopened first

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Open the store, fill the index, and dispatch what fell due while nobody ran.

        Raises what the store's `open` raises, or what the first units were refused with; nothing is held then.
        """
        self._loop = asyncio.get_running_loop()
        found = await self._store.open()
        self.first_answers = await take_first(self._store, self._first, self._clock_wait.instead_us(found.last_us))
        self.dispatch.begin(found)
        self.settings.begin(found, self.dispatch.gates)
        now_us = self._clock.now_us()
        self._pruning.begin(found, now_us)
        for job, outcome in found.interrupted:
            self._host.attempted(job, outcome, now_us)
        self._running = self.accepting = True
        self._clock_wait.begin(found.last_us, self._begin_dispatching)
        self._begin()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._run(), name="scheduler actor")
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Begin again when the task ended though nobody stopped the app: it was canceled, with all tasks, say."""
        if self._running:
            log.critical("the scheduler actor ended (%r); it starts again from the database", task)
            self.broken = StoreUnavailable("the scheduler's task was ended from outside")
            self._begin()

    def _begin_dispatching(self) -> None:
        self._dispatching = self.accepting
        self._wake.set()

    async def stop(self, grace_us: int) -> None:
        """Stop picking, let running actions end within the grace, finish every accepted command, checkpoint, close."""
        if not self._running:
            return
        reach("shutdown.begun")
        self.accepting = self._dispatching = False
        self.stirring.tell()
        drained = False
        try:
            while self._watch.under_way and not self._stalls():
                await self.stirs()  # what it claims has its grace, too
            await self.attempts.finish(grace_us / SECOND_US)
            self._hold.clear()
            self._wake.set()
            while self._has_commands() and not self._stalls():
                await self.stirs()
            drained = self.broken is None
            if self._mailbox.keeps:
                log.error("some outcomes of actions could not be stored; the next start takes them for interrupted")
            reach("shutdown.drained")
        finally:  # canceled meanwhile: it ends as a crash would, but it ends
            if not drained:
                await self.attempts.abandon()
            await to_the_end(self._end(checkpoint=drained))

    async def kill(self) -> None:
        """End as a crash would: record nothing more, tidy nothing up."""
        if not self._running:
            return
        self.accepting = self._dispatching = False
        await self.attempts.abandon()
        await self._end(checkpoint=False)

    def _stalls(self) -> bool:
        """Whether waiting for the commands would not help: the store takes nothing."""
        if self.broken is not None or self.stuck is not None:
            return True
        return self._hold.active and not len(self._mailbox) and not self._watch.under_way

    async def _end(self, *, checkpoint: bool) -> None:
        if not self._running:
            return
        self._running = False
        self.stirring.tell()
        stuck = self.stuck is not None
        self._alarm.arm(None)
        self._clock_wait.stop()
        await self._preparation.stop()
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self._mailbox.refuse_all(NotStarted("the app was stopped before this call was accepted"))
        self.watchers.fail_all(NotStarted("the app was stopped"))
        if stuck:
            self._store.abandon()
        else:
            await self._store.close(checkpoint=checkpoint)

    # ------------------------------------------------------------ the mailbox

    def submit(self, unit: Unit, *, inside: bool = False) -> asyncio.Future[Any]:
        """Put a unit into the mailbox; the future has its answer once the commit that holds it is durable.

        `inside` is for the ctx of a running action: it is served until the shutdown's grace ends.
        Raises NotStarted, StoreUnavailable, WriterStuck or Overloaded when it was not accepted.  The future raises what
        the unit was refused with, or OutcomeUnknown when the commit's fate is not known.  Cancelling it never cancels
        a turn: a command that is already in one still takes effect.
        """
        self.check_usable(inside=inside)
        trouble = self.broken or self.stuck
        if trouble is not None:
            raise copy.copy(trouble)  # its own: one error raised to many would gather the frames of them all
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._mailbox.put(unit, reply)
        self._wake.set()
        return reply

    def check_usable(self, *, inside: bool = False) -> None:
        """Raise NotStarted, ContextClosed or StoreUnavailable where a call can't be served at all.

        Not running; another event loop, or none, as inside a query or mutation; a forked child.
        """
        if self._running:
            self._store.check_process()
        check_admission(self._loop, accepting=self.accepting or (inside and self._running))

    def _attempt_ended(self, job: DueJob, outcome: Outcome) -> None:
        self._mailbox.put(CompleteJob(job, outcome, self._clock.now_us()), None)
        self._wake.set()

    def _attempt_freed(self, queue: str) -> None:
        self.dispatch.gates.ended(queue)
        self._wake.set()

    def look(self) -> None:
        """Look at the clock now: a host that was asleep may have kept its timers from ringing."""
        self._wake.set()

    # ------------------------------------------------------------ quiet: what a virtual clock, or a beat, waits for

    @property
    def at_rest(self) -> bool:
        """Whether nothing could be started or stored now: while the store is left alone for a moment, too."""
        return not (self._has_work() or self._watch.under_way or self._preparation.under_way)

    @property
    def caught_up(self) -> bool:
        """Whether nothing is due that can start, or that waits for no more than a running attempt to end."""
        return self.at_rest and not self._hold.active and not self.dispatch.held_up(self._clock.now_us())

    @property
    def quiet(self) -> bool:
        """Whether nothing can happen any more unless time passes or somebody calls."""
        return self.at_rest and self.attempts.waiting_for_clock

    async def stirs(self) -> None:
        """Return when something has happened that may have made the actor quiet. For one waiter at a time."""
        await self._stirred.wait()
        self._stirred.clear()

    # ------------------------------------------------------------ turns

    async def _run(self) -> None:
        while True:
            try:
                if self.broken is not None:
                    await self._recover()
                elif self._has_work():
                    await self._turn()
                else:
                    self._arm()
                    self.stirring.tell()
                    self._wake.clear()
                    await self._wake.wait()
            except Exception as bug:
                log.exception("the scheduler actor failed; it starts again from the database")
                self.broken = StoreUnavailable(f"the scheduler failed: {bug!r}")
                await pause(self._clock, HOLD_US_MIN)  # one that fails each time must not keep the loop busy

    def _has_commands(self) -> bool:
        return bool(len(self._mailbox) or self._mailbox.keeps or self._watch.under_way)

    def _has_work(self) -> bool:
        if self.broken is not None or len(self._mailbox):
            return True
        if self._hold.active:
            return False
        if self._mailbox.keeps:
            return True
        if not self._dispatching or self._preparation.under_way:
            return False
        if self._preparation.ready:
            return True
        next_us = self._next_us(now_us := self._clock.now_us())
        return (next_us is not None and next_us <= now_us) or bool(self.dispatch.refills())

    def _next_us(self, now_us: int) -> int | None:
        """Return when there is something to do next by itself."""
        moments = (self.dispatch.next_us(now_us), self._pruning.due_us)
        return min((moment for moment in moments if moment is not None), default=None)

    def _arm(self) -> None:
        """Set the alarm for the earliest fire time; after every turn, so that nothing can leave it wrong."""
        waits = self._dispatching and not self._preparation.under_way  # which rings itself when it is done
        when_us = self._next_us(self._clock.now_us()) if waits else None
        if self._hold.active:
            when_us = self._hold.until_us
        self._alarm.arm(when_us)
        reach("alarm.armed")

    async def _turn(self) -> None:
        commands, due = self._collect()
        prune = self._pruning.unit(self._clock.now_us()) if self._dispatching and not self._hold.active else []
        units: list[Unit] = [*(command.unit for command in commands), *due, *prune]
        refills = self.dispatch.refills()
        try:
            with self._watch.turn(len(units)):
                result = await self._store.apply(units, refills)
        except BaseException as error:
            self._replies.answer_unknown(commands, error)
            raise
        self._settle(commands, due, result)
        self.witness.turned(units, result, self._watch.took_us)
        reach("turn.replied")
        # Let those who were answered go on first: what they send next belongs into the next turn together.
        await asyncio.sleep(0)

    def _collect(self) -> tuple[list[Command], list[RunDue]]:
        """Take what the next turn consists of: commands in order of acceptance, then due entries in order."""
        on_hold = self._hold.active
        if not on_hold:
            self._mailbox.release_kept()
        commands = self._mailbox.take(TURN_COMMANDS_MAX)
        if on_hold or not self._dispatching or self._preparation.under_way:
            return commands, []
        if any(isinstance(command.unit, Set) for command in commands):
            return commands, []  # it may be what keeps them from starting
        if self._preparation.ready:
            return commands, self.dispatch.let_through(self._preparation.take(), self._clock.now_us())
        due = self.dispatch.take(self._clock.now_us())
        if due and self._preparation.needed:
            self._preparation.start(due)
            return commands, []
        return commands, due

    def _not_prepared(self, due: list[RunDue]) -> None:
        self.dispatch.put_back(due)
        self._hold.lengthen()

    def _settle(self, commands: list[Command], due: list[RunDue], result: TurnResult) -> None:
        """Open the gate: what the turn committed becomes visible, in turn order."""
        replies, effects = result.replies, result.effects
        self.dispatch.apply(result)
        refused = False
        for command, reply in zip(commands, replies, strict=False):
            refused |= self._replies.answer(command, reply, effects)
        for unit, reply in zip(due, replies[len(commands) :], strict=False):
            refused |= self._dispatch(unit, reply, effects)
        self._mailbox.put_back(commands[len(replies) :])  # what the turn had no time for
        begun = min(max(len(replies) - len(commands), 0), len(due))
        self.dispatch.put_back(due[begun:], effects.gone)
        self.dispatch.learn(len(due), begun)
        for reply in replies[len(commands) + len(due) :]:
            self._pruning.answered(reply, self._clock.now_us())
        self._follow(effects)
        if refused:
            self._hold.lengthen()
        elif any(isinstance(reply, Done) for reply in replies):
            self._hold.clear()
        if result.broken is not None:
            self.broken = result.broken
            if due or self._mailbox.keeps:  # a store that opens, and fails at each commit, must not keep the loop busy
                self._hold.lengthen()

    def _follow(self, effects: Effects) -> None:
        self._preparation.forget(effects.gone)
        if effects.ended:
            self.watchers.tell(effects.ended)
            self._pruning.ended(self._clock.now_us())
        for seq, stops in effects.stopping:
            if stops:
                self.attempts.stop(seq)

    def _dispatch(self, unit: RunDue, reply: Reply, effects: Effects) -> bool:
        """Start a claimed action; put back what the store could not take, and return whether it was so."""
        match reply:
            case Done(Claimed(job)):
                self._replies.started(job)
                self.dispatch.gates.started(unit.queue, self._clock.now_us())
                self.attempts.start(job, unit.queue)
            case Done(Fired()):
                log_drops(reply.value)
            case Done(Ran(job, outcome, ended_at_us)):
                self._host.starting(job)
                self._host.attempted(job, outcome, ended_at_us)
            case Refused():
                self.dispatch.put_back([unit], effects.gone)
                return True
        return False

    # ------------------------------------------------------------ trouble

    @property
    def stuck(self) -> WriterStuck | None:
        """Why nothing is accepted: the turn under way does not end."""
        return self._watch.stuck

    def _is_stuck(self, stuck: WriterStuck) -> None:
        self._mailbox.refuse_all(stuck)
        self.stirring.tell()
        if self._on_stuck is not None:
            self._on_stuck()

    async def _reopen(self) -> bool:
        try:
            # To its end: a thread that is left while it connects would answer to a loop that is gone.
            found = await to_the_end(self._store.reopen(self._replies.unfinished))
        except Exception as error:
            self.broken = error if isinstance(error, ActorSchedulerError) else StoreUnavailable(said(error))
            self._mailbox.refuse_all(self.broken)
            log.error("reopening the database failed, trying again: %s", self.broken)  # noqa: TRY400 - said, not traced
            return False
        self.settings.begin(found, self.dispatch.gates)
        self.dispatch.rebuild(found)
        return True

    async def _recover(self) -> None:
        """Reopen the store and rebuild the index; until that works, accept nothing and say why."""
        log.error("the database must be reopened: %s", self.broken)
        self.stirring.tell()
        await self._store.idle()  # a turn whose wait was canceled must not meet the reopening
        await self._preparation.stop()
        wait_us = HOLD_US_MIN
        while not await self._reopen():
            self.stirring.tell()
            await pause(self._clock, wait_us)
            wait_us = min(wait_us * 2, HOLD_US_MAX)
        self.broken = None
        self.watchers.tell_all()
        log.warning("the database was reopened and the index rebuilt")
