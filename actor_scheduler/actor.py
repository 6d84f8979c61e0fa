"""The scheduler actor: the one writer of an app.

Everything that changes state is a command in its mailbox.  One turn at a time takes what has collected there, and what
is due, to the store; while that turn commits, the next one collects: that is group commit.  Replies are released,
actions started and the alarm set only after the commit that holds them: that is the output gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from actor_scheduler.alarm import Alarm
from actor_scheduler.attempts import Attempts
from actor_scheduler.clock import Clock, sleep_until
from actor_scheduler.crashpoints import reach
from actor_scheduler.errors import ActorSchedulerError, ContextClosed, NotStarted, OutcomeUnknown, Overloaded, StoreUnavailable
from actor_scheduler.index import JobIndex
from actor_scheduler.limits import (
    ACTIONS_MAX,
    MAILBOX_MAX,
    SECOND_US,
    TURN_COMMANDS_MAX,
    TURN_DUE_MAX,
    WINDOW_LOAD,
    WINDOW_MAX,
)
from actor_scheduler.model import ACTIONS, MUTATIONS, DueJob, Outcome
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

log = logging.getLogger("actor_scheduler")

_HOLD_US_MIN: Final = SECOND_US // 10
_HOLD_US_MAX: Final = 5 * SECOND_US  # a full disk or a foreign writer is tried again at least this often


class Command:
    """A unit in the mailbox, and who waits for its reply (None: nobody does)."""

    __slots__ = ("reply", "unit")

    def __init__(self, unit: Unit, reply: asyncio.Future[Any] | None) -> None:
        self.unit = unit
        self.reply = reply


class Actor:
    """One per app. Used from one event loop."""

    def __init__(
        self, store: Store, host: Host, clock: Clock, *, slots: int = ACTIONS_MAX, window_max: int = WINDOW_MAX
    ) -> None:
        self._store = store
        self._host = host
        self._clock = clock
        self._window_max = window_max
        self._index = self._new_index()
        self.attempts = Attempts(host, slots, self._attempt_ended, self._stir)
        self._alarm = Alarm(clock, self._ring)
        self._preparing: asyncio.Task[None] | None = None
        self._prepared: list[RunDue] = []  # due, and ready for their turn
        self._mailbox: deque[Command] = deque()
        self._held: list[Command] = []  # completions the store could not take; they must not be lost
        self._unfinished: set[int] = set()  # claims of this process whose completion is not durable yet
        self._hold_until_us: int | None = None
        self._hold_us = _HOLD_US_MIN
        self._waiters: dict[int, list[asyncio.Future[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stirred = asyncio.Event()
        self._turn_under_way = False
        self._accepting = False  # commands from outside
        self._dispatching = False  # due jobs
        self._running = False
        self.broken: ActorSchedulerError | None = None  # why nothing is accepted for now

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
        await self.attempts.finish(grace_us / SECOND_US)
        while self._has_commands() and self.broken is None:
            self._stirred.clear()
            await self._stirred.wait()
        reach("shutdown.drained")
        await self._end(checkpoint=True)

    async def kill(self) -> None:
        """End as a crash would: record nothing more, tidy nothing up."""
        if not self._running:
            return
        self._accepting = self._dispatching = False
        await self.attempts.abandon()
        await self._end(checkpoint=False)

    async def _end(self, *, checkpoint: bool) -> None:
        self._running = False
        self._alarm.arm(None)
        tasks = [task for task in (self._task, self._preparing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._fail_all(NotStarted("the app was stopped before this call was accepted"))
        for waiter in [future for futures in self._waiters.values() for future in futures]:
            if not waiter.done():
                waiter.set_exception(NotStarted("the app was stopped"))
        self._waiters.clear()
        await self._store.close(checkpoint=checkpoint)

    # ------------------------------------------------------------ the mailbox

    async def submit(self, unit: Unit, *, inside: bool = False) -> Any:
        """Put a unit into the mailbox and return its answer, once the commit that holds it is durable.

        `inside` is for the ctx of a running action: it is served until the shutdown's grace ends.
        Raises what the unit was refused with; OutcomeUnknown when the commit's fate is not known; NotStarted,
        StoreUnavailable or Overloaded when it was not accepted.  Cancelling the caller never cancels a turn: a
        command that is already in one still takes effect.
        """
        loop = self._loop
        if loop is None or not (self._accepting or (inside and self._running)):
            msg = "the app is not running: enter its lifespan first (async with app, or FastAPI(lifespan=app.lifespan))"
            raise NotStarted(msg)
        if asyncio._get_running_loop() is not loop:  # noqa: SLF001 - get_running_loop raises where there is none
            msg = (
                "this handle belongs to the event loop the app runs on. "
                "Inside a query or mutation use ctx, never the app: its awaits can't run there"
            )
            raise ContextClosed(msg)
        if self.broken is not None:
            raise self.broken
        if len(self._mailbox) >= MAILBOX_MAX:
            msg = f"{MAILBOX_MAX} commands are waiting for the database; nothing was stored, try again later"
            raise Overloaded(msg)
        self._store.check_process()
        reply: asyncio.Future[Any] = loop.create_future()
        self._mailbox.append(Command(unit, reply))
        self._wake.set()
        return await reply

    def _attempt_ended(self, job: DueJob, outcome: Outcome) -> None:
        done = CompleteJob(job.seq, job.attempt, outcome, self._clock.now_us())
        self._mailbox.append(Command(done, None))
        self._wake.set()

    @contextlib.contextmanager
    def watch(self, seq: int) -> Iterator[asyncio.Future[None]]:
        """Yield a future that is done once this job has ended, or the store was reopened: look at the job then.

        Taken before the job is read, so that an end between the two is not missed.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(seq, []).append(waiter)
        try:
            yield waiter
        finally:
            waiting = self._waiters.get(seq, [])
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                self._waiters.pop(seq, None)
            waiter.cancel()

    # ------------------------------------------------------------ quiet: what a virtual clock waits for

    @property
    def quiet(self) -> bool:
        """Whether nothing can happen any more unless time passes or somebody calls."""
        at_rest = not self._has_work() and not self._turn_under_way and self._preparing is None
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
        return bool(self._mailbox or self._held or self._turn_under_way)

    def _has_work(self) -> bool:
        if self.broken is not None or self._mailbox:
            return True
        if self._on_hold():
            return False
        if self._held:
            return True
        if not self._dispatching or self._preparing is not None:
            return False
        if self._prepared:
            return True
        earliest_us = self._index.earliest_us(self._room())
        due = earliest_us is not None and earliest_us <= self._clock.now_us()
        return due or bool(self._index.must_refill())

    def _on_hold(self) -> bool:
        return self._hold_until_us is not None and self._clock.now_us() < self._hold_until_us

    def _room(self) -> dict[str, int]:
        return {ACTIONS: self.attempts.free}

    def _arm(self) -> None:
        """Set the alarm for the earliest fire time; after every turn, so that nothing can leave it wrong."""
        when_us = self._index.earliest_us(self._room()) if self._dispatching else None
        if self._on_hold():
            when_us = self._hold_until_us
        self._alarm.arm(when_us)
        reach("alarm.armed")

    async def _turn(self) -> None:
        commands, due = self._collect()
        units: list[Unit] = [*(command.unit for command in commands), *due]
        refills = [Refill(queue, after, WINDOW_LOAD) for queue, after in self._index.must_refill()]
        self._turn_under_way = True
        try:
            result = await self._store.apply(units, refills)
        except BaseException as error:
            self._answer_unknown(commands, error)
            raise
        finally:
            self._turn_under_way = False
        self._settle(commands, due, result)
        reach("turn.replied")
        # Let those who were answered go on first: what they send next belongs into the next turn together.
        await asyncio.sleep(0)

    def _collect(self) -> tuple[list[Command], list[RunDue]]:
        """Take what the next turn consists of: commands in order of acceptance, then due entries in order."""
        on_hold = self._on_hold()
        if self._held and not on_hold:
            self._mailbox.extendleft(reversed(self._held))
            self._held.clear()
        commands: list[Command] = []
        while self._mailbox and len(commands) < TURN_COMMANDS_MAX:
            command = self._mailbox.popleft()
            if command.reply is None or not command.reply.done():  # whoever was canceled before the turn is withdrawn
                commands.append(command)
        if on_hold or not self._dispatching or self._preparing is not None:
            return commands, []
        if self._prepared:
            due, self._prepared = self._prepared, []
            return commands, due
        taken = self._index.take_due(self._clock.now_us(), TURN_DUE_MAX, self._room())
        due = [RunDue(queue, entry) for queue, entry in taken]
        if due and self._host.prepares:
            self._preparing = asyncio.create_task(self._prepare(due), name="prepare due mutations")
            return commands, []
        return commands, due

    async def _prepare(self, due: list[RunDue]) -> None:
        """Let the host await what due mutations need before their turn, one batch at a time, so that order holds."""
        seqs = [unit.entry.seq for unit in due if unit.queue == MUTATIONS]
        try:
            jobs: dict[int, DueJob] = await self._store.query(lambda snapshot: snapshot.due_jobs(seqs), None)
            gave = await asyncio.gather(*(self._host.prepare(job) for job in jobs.values()))
            prepared = dict(zip(jobs, gave, strict=True))
            self._prepared = [RunDue(unit.queue, unit.entry, prepared.get(unit.entry.seq)) for unit in due]
        except ActorSchedulerError as error:
            log.warning("due jobs could not be read, trying again: %s", error)
            self._put_back([], due)
            self._adjust_hold(refused=True, progressed=False)
        finally:
            self._preparing = None
            self._wake.set()

    def _settle(self, commands: list[Command], due: list[RunDue], result: TurnResult) -> None:
        """Open the gate: what the turn committed becomes visible, in turn order."""
        replies = result.replies
        effects = result.effects
        for queue, entry in effects.pending:
            self._index.window(queue).add(entry)
        for queue, entry in effects.gone:
            self._index.window(queue).discard(entry)
        for queue, entries, complete in result.refills:
            self._index.window(queue).refill(entries, complete=complete)
        refused = False
        for command, reply in zip(commands, replies, strict=False):
            refused |= self._answer(command, reply)
        for unit, reply in zip(due, replies[len(commands) :], strict=False):
            match reply:
                case Done(Claimed(job)):
                    self._unfinished.add(job.seq)
                    self.attempts.start(job)
                case Refused():
                    self._put_back([], [unit])
                    refused = True
        self._put_back(commands[len(replies) :], due[max(len(replies) - len(commands), 0) :])
        for seq in effects.ended:
            self._unfinished.discard(seq)
            for waiter in self._waiters.pop(seq, ()):
                if not waiter.done():
                    waiter.set_result(None)
        self._adjust_hold(refused=refused, progressed=any(isinstance(reply, Done) for reply in replies))
        if result.broken is not None:
            self.broken = result.broken

    def _answer(self, command: Command, reply: Reply) -> bool:
        """Release one reply. Return whether the store could not take the command though it must."""
        if command.reply is None:  # a completion: it is kept until the store takes it
            if isinstance(reply, Done):
                assert isinstance(command.unit, CompleteJob)
                self._unfinished.discard(command.unit.seq)
                if reply.value is False:
                    log.error("the outcome of job %d came too late: its row is not this attempt's", command.unit.seq)
                return False
            self._held.append(command)
            return True
        if command.reply.done():
            return False
        match reply:
            case Done(value):
                command.reply.set_result(value)
            case Refused(error) | Unknown(error):
                command.reply.set_exception(_bearable(error))
        return False

    def _put_back(self, commands: list[Command], due: list[RunDue]) -> None:
        """Return to their places what the turn had no time for."""
        self._mailbox.extendleft(reversed(commands))
        for unit in due:
            self._index.window(unit.queue).add(unit.entry)

    def _adjust_hold(self, *, refused: bool, progressed: bool) -> None:
        """Wait a little, and longer each time, while the store takes nothing; not at all once it does."""
        if refused:
            self._hold_until_us = self._clock.now_us() + self._hold_us
            self._hold_us = min(self._hold_us * 2, _HOLD_US_MAX)
        elif progressed:
            self._hold_until_us = None
            self._hold_us = _HOLD_US_MIN

    # ------------------------------------------------------------ trouble

    def _answer_unknown(self, commands: list[Command], error: BaseException) -> None:
        for command in commands:
            if command.reply is None:
                self._held.append(command)
            elif not command.reply.done():
                unknown = OutcomeUnknown("the app was stopped while this call was being committed")
                unknown.__cause__ = error
                command.reply.set_exception(unknown)

    async def _recover(self) -> None:
        """Reopen the store and rebuild the index; until that works, accept nothing and say why."""
        log.error("the database must be reopened: %s", self.broken)
        wait_us = 0
        while True:
            if wait_us:
                await sleep_until(self._clock, self._clock.now_us() + wait_us)
            try:
                await self._store.reopen(list(self._unfinished))
            except ActorSchedulerError as error:
                self.broken = error
                self._fail_all(error)
                log.error("reopening the database failed, trying again: %s", error)  # noqa: TRY400 - said, not traced
                wait_us = min(max(wait_us * 2, _HOLD_US_MIN), _HOLD_US_MAX)
                continue
            break
        self._index = self._new_index()
        self._prepared.clear()
        self.broken = None
        for waiter in [future for futures in self._waiters.values() for future in futures]:
            if not waiter.done():
                waiter.set_result(None)
        log.warning("the database was reopened and the index rebuilt")

    def _fail_all(self, error: ActorSchedulerError) -> None:
        """Answer every waiting command; completions stay, they must not be lost."""
        waiting, self._mailbox = self._mailbox, deque()
        for command in waiting:
            if command.reply is None:
                self._mailbox.append(command)
            elif not command.reply.done():
                command.reply.set_exception(error)


def _bearable(error: BaseException) -> BaseException:
    """Return an error that a future can carry without stopping the loop of whoever awaits it."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"the function raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
