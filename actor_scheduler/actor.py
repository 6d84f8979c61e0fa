"""The scheduler actor: the one writer of an app.

Everything that changes state is a command in its mailbox.  One turn at a time takes what has collected there, and what
is due, to the store; while that turn commits, the next one collects: that is group commit.  Replies are released,
actions started and the alarm set only after the commit that holds them: that is the output gate.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.alarm import Alarm
from actor_scheduler.attempts import Attempts
from actor_scheduler.clock import Clock, pause
from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import (
    ActorSchedulerError,
    ContextClosed,
    NotStarted,
    OutcomeUnknown,
    StoreUnavailable,
    WriterStuck,
    said,
)
from actor_scheduler.hold import HOLD_US_MAX, HOLD_US_MIN, Hold
from actor_scheduler.index import JobIndex
from actor_scheduler.limits import (
    ACTIONS_MAX,
    SECOND_US,
    TURN_COMMANDS_MAX,
    TURN_DUE_MAX,
    WINDOW_LOAD,
    WINDOW_MAX,
)
from actor_scheduler.mailbox import Command, Mailbox
from actor_scheduler.model import ACTIONS, MUTATIONS, DueJob, Entry, Outcome
from actor_scheduler.preparation import Preparation
from actor_scheduler.shield import to_the_end
from actor_scheduler.store.base import (
    Claimed,
    CompleteJob,
    Done,
    Host,
    Refill,
    Refused,
    Reply,
    RunDue,
    Store,
    TurnResult,
    Unit,
    Unknown,
)
from actor_scheduler.watchers import Watchers

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("actor_scheduler")

_DUE_MIN: Final = 16  # due entries offered to a turn, however slow the one before was
STUCK_SECONDS: Final = 30.0  # a turn this long: twice the default time limit, and a foreign writer's 5 s besides


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
    ) -> None:
        self._store = store
        self._clock = clock
        self._window_max = window_max
        self._window_load = min(WINDOW_LOAD, window_max)
        self._index = self._new_index()
        self.attempts = Attempts(host, slots, self._attempt_ended, self._stir)
        self._alarm = Alarm(clock, self._ring)
        self._preparation = Preparation(store, host, self._ring, self._not_prepared)
        self._mailbox = Mailbox()
        self._hold = Hold(clock)
        self._due_max = TURN_DUE_MAX
        self._unfinished: set[int] = set()  # claims of this process whose completion is not durable yet
        self.watchers = Watchers()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stirred = asyncio.Event()
        self._turn_under_way = False
        self._accepting = False  # commands from outside
        self._dispatching = False  # due jobs
        self._running = False
        self._stuck_seconds = stuck_seconds
        self._on_stuck = on_stuck
        self.broken: ActorSchedulerError | None = None  # why nothing is accepted: the store must be reopened first
        self.stuck: WriterStuck | None = None  # why nothing is accepted: the turn under way does not end

    def _new_index(self) -> JobIndex:
        index = JobIndex(entries_max=self._window_max)
        for queue in (MUTATIONS, ACTIONS):
            index.window(queue)
        return index

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Open the store, fill the index, and dispatch what fell due while nobody ran.

        Raises what the store's `open` raises; nothing is held then.
        """
        self._loop = asyncio.get_running_loop()
        await self._store.open()
        self._running = self._accepting = self._dispatching = True
        self._task = asyncio.create_task(self._run(), name="scheduler actor")

    async def stop(self, grace_us: int) -> None:
        """Stop picking, let running actions end within the grace, finish every accepted command, checkpoint, close."""
        if not self._running:
            return
        reach("shutdown.begun")
        self._accepting = self._dispatching = False
        drained = False
        try:
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
        self._accepting = self._dispatching = False
        await self.attempts.abandon()
        await self._end(checkpoint=False)

    def _stalls(self) -> bool:
        """Whether waiting for the commands would not help: the store takes nothing."""
        if self.broken is not None or self.stuck is not None:
            return True
        return self._hold.active and not len(self._mailbox) and not self._turn_under_way

    async def _end(self, *, checkpoint: bool) -> None:
        if not self._running:
            return
        self._running = False
        stuck = self.stuck is not None
        self._alarm.arm(None)
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
        if not (self._accepting or (inside and self._running)):
            msg = "the app is not running: enter its lifespan first (async with app, or FastAPI(lifespan=app.lifespan))"
            raise NotStarted(msg)
        if asyncio._get_running_loop() is not self._loop:  # noqa: SLF001 - get_running_loop raises where there is none
            msg = (
                "this handle belongs to the event loop the app runs on. "
                "Inside a query or mutation use ctx, never the app: its awaits can't run there"
            )
            raise ContextClosed(msg)

    def _attempt_ended(self, job: DueJob, outcome: Outcome) -> None:
        done = CompleteJob(job.seq, job.attempt, outcome, self._clock.now_us())
        self._mailbox.put(done, None)
        self._wake.set()

    # ------------------------------------------------------------ quiet: what a virtual clock waits for

    @property
    def quiet(self) -> bool:
        """Whether nothing can happen any more unless time passes or somebody calls."""
        at_rest = not self._has_work() and not self._turn_under_way and not self._preparation.under_way
        return at_rest and self.attempts.waiting_for_clock

    async def stirs(self) -> None:
        """Return when something has happened that may have made the actor quiet."""
        self._stirred.clear()
        await self._stirred.wait()

    def _stir(self) -> None:
        self._stirred.set()

    def _ring(self) -> None:
        self._wake.set()

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
                    self._stirred.set()
                    self._wake.clear()
                    await self._wake.wait()
            except Exception as bug:
                log.exception("the scheduler actor failed; it starts again from the database")
                self.broken = StoreUnavailable(f"the scheduler failed: {bug!r}")

    def _has_commands(self) -> bool:
        return bool(len(self._mailbox) or self._mailbox.keeps or self._turn_under_way)

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
        earliest_us = self._index.earliest_us(self._room())
        due = earliest_us is not None and earliest_us <= self._clock.now_us()
        return due or bool(self._index.must_refill())

    def _room(self) -> dict[str, int]:
        return {ACTIONS: self.attempts.free}

    def _arm(self) -> None:
        """Set the alarm for the earliest fire time; after every turn, so that nothing can leave it wrong."""
        when_us = self._index.earliest_us(self._room()) if self._dispatching else None
        if self._hold.active:
            when_us = self._hold.until_us
        self._alarm.arm(when_us)
        reach("alarm.armed")

    async def _turn(self) -> None:
        commands, due = self._collect()
        units: list[Unit] = [*(command.unit for command in commands), *due]
        refills = [Refill(queue, after, self._window_load) for queue, after in self._index.must_refill()]
        self._turn_under_way = True
        watch = asyncio.get_running_loop().call_later(self._stuck_seconds, self._notice_stuck)
        try:
            result = await self._store.apply(units, refills)
        except BaseException as error:
            self._answer_unknown(commands, error)
            raise
        finally:
            self._turn_under_way = False
            watch.cancel()
            if self.stuck is not None:
                log.warning("the writer goes on")
                self.stuck = None
        self._settle(commands, due, result)
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
        if self._preparation.ready:
            return commands, self._preparation.take()
        taken = self._index.take_due(self._clock.now_us(), self._due_max, self._room())
        due = [RunDue(queue, entry) for queue, entry in taken]
        if due and self._preparation.needed:
            self._preparation.start(due)
            return commands, []
        return commands, due

    def _not_prepared(self, due: list[RunDue]) -> None:
        self._put_back(due)
        self._hold.lengthen()

    def _settle(self, commands: list[Command], due: list[RunDue], result: TurnResult) -> None:
        """Open the gate: what the turn committed becomes visible, in turn order."""
        replies = result.replies
        self._update_index(result)
        refused = False
        for command, reply in zip(commands, replies, strict=False):
            refused |= self._answer(command, reply)
        for unit, reply in zip(due, replies[len(commands) :], strict=False):
            refused |= self._dispatch(unit, reply)
        self._mailbox.put_back(commands[len(replies) :])  # what the turn had no time for
        begun = max(len(replies) - len(commands), 0)
        self._put_back(due[begun:])
        if due:  # take next time what this turn had time for, and up to twice that while it is enough
            self._due_max = min(max(begun * 2, _DUE_MIN) if begun == len(due) else max(begun, _DUE_MIN), TURN_DUE_MAX)
        self._unfinished.difference_update(result.effects.ended)
        self.watchers.tell(result.effects.ended)
        if refused:
            self._hold.lengthen()
        elif any(isinstance(reply, Done) for reply in replies):
            self._hold.clear()
        if result.broken is not None:
            self.broken = result.broken

    def _update_index(self, result: TurnResult) -> None:
        by_queue: dict[str, list[Entry]] = {}
        for queue, entry in result.effects.pending:
            by_queue.setdefault(queue, []).append(entry)
        for queue, entries in by_queue.items():
            self._index.window(queue).add_many(entries)
        for queue, entry in result.effects.gone:
            self._index.window(queue).discard(entry)
        for refill, entries, complete in result.refills:
            self._index.window(refill.queue).refill(refill.after, entries, complete=complete)

    def _dispatch(self, unit: RunDue, reply: Reply) -> bool:
        """Start a claimed action; put back what the store could not take, and return whether it was so."""
        match reply:
            case Done(Claimed(job)):
                self._unfinished.add(job.seq)
                self.attempts.start(job)
            case Refused():
                self._put_back([unit])
                return True
        return False

    def _answer(self, command: Command, reply: Reply) -> bool:
        """Release one reply. Return whether the store could not take the command though it must."""
        if command.reply is None:  # a completion: it is kept until the store takes it
            if isinstance(reply, Done):
                assert isinstance(command.unit, CompleteJob)
                self._unfinished.discard(command.unit.seq)
                if reply.value is False:
                    log.error("the outcome of job %d came too late: its row is not this attempt's", command.unit.seq)
                return False
            self._mailbox.keep(command)
            return True
        if command.reply.done():
            return False
        match reply:
            case Done(value):
                command.reply.set_result(value)
            case Refused(error) | Unknown(error):
                command.refuse(error)
        return False

    def _put_back(self, due: list[RunDue]) -> None:
        """Return due entries to the index."""
        for queue in {unit.queue for unit in due}:
            self._index.window(queue).add_many([unit.entry for unit in due if unit.queue == queue])

    # ------------------------------------------------------------ trouble

    def _answer_unknown(self, commands: list[Command], error: BaseException) -> None:
        for command in commands:
            if command.reply is None:
                self._mailbox.keep(command)
            unknown = OutcomeUnknown("the app was stopped while this call was being committed")
            unknown.__cause__ = error
            command.refuse(unknown)

    def _notice_stuck(self) -> None:
        """Refuse new work while a turn does not end: it can't be stopped from outside without breaking the thread."""
        self.stuck = WriterStuck(
            f"the writer has been busy for over {self._stuck_seconds:g} s; nothing is accepted until it goes on",
        )
        log.critical("%s. It stands at:\n%s", self.stuck, self._store.busy_with())
        self._mailbox.refuse_all(self.stuck)
        self._stirred.set()
        if self._on_stuck is not None:
            self._on_stuck()

    async def _reopen(self) -> bool:
        try:
            # To its end: a thread that is left while it connects would answer to a loop that is gone.
            await to_the_end(self._store.reopen(list(self._unfinished)))
        except Exception as error:
            self.broken = error if isinstance(error, ActorSchedulerError) else StoreUnavailable(said(error))
            self._mailbox.refuse_all(self.broken)
            log.error("reopening the database failed, trying again: %s", self.broken)  # noqa: TRY400 - said, not traced
            return False
        return True

    async def _recover(self) -> None:
        """Reopen the store and rebuild the index; until that works, accept nothing and say why."""
        log.error("the database must be reopened: %s", self.broken)
        self._stir()
        await self._preparation.stop()
        wait_us = HOLD_US_MIN
        while not await self._reopen():
            self._stir()
            await pause(self._clock, wait_us)
            wait_us = min(wait_us * 2, HOLD_US_MAX)
        self._index = self._new_index()
        self.broken = None
        self.watchers.tell_all()
        log.warning("the database was reopened and the index rebuilt")
