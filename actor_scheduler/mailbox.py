"""The actor's mailbox: commands in order of acceptance, and completions that wait for the store to take them."""

from __future__ import annotations

import copy
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import (
    NotStarted,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
    WriterStuck,
    bearable,
)
from actor_scheduler.limits import MAILBOX_MAX, MAILBOX_WAIT_US, SECOND_US, TURN_COMMANDS_MAX
from actor_scheduler.store.base import Done

if TYPE_CHECKING:
    import asyncio

    from actor_scheduler.store.base import Reply, Unit


_SHARED: Final = (NotStarted, OutcomeUnknown, StoreUnavailable, WriterStuck)


class Command:
    """A unit, and who waits for its reply (None: it is a completion, and must not be lost)."""

    __slots__ = ("accepted_us", "reply", "unit")

    def __init__(self, unit: Unit, reply: asyncio.Future[Any] | None, accepted_us: int) -> None:
        self.unit = unit
        self.reply = reply
        self.accepted_us = accepted_us  # by the clock that no step moves

    def answer(self, reply: Reply) -> None:
        """Release what the store has answered, unless whoever asked has gone."""
        if not isinstance(reply, Done):
            self.refuse(reply.error)
        elif self.reply is not None and not self.reply.done():
            self.reply.set_result(reply.value)

    def refuse(self, error: BaseException) -> None:
        """Answer with an error, unless whoever asked has gone."""
        if self.reply is not None and not self.reply.done():
            # Its own copy: one error raised to many would gather the frames of them all.
            self.reply.set_exception(copy.copy(error) if isinstance(error, _SHARED) else bearable(error))


class Mailbox:
    """A bounded queue of commands. Completions are never refused for its length: their number is that of the slots."""

    def __init__(self) -> None:
        self._commands: deque[Command] = deque()
        self._kept: list[Command] = []

    def __len__(self) -> int:
        """Return how many commands could go into the next turn."""
        return len(self._commands)

    @property
    def keeps(self) -> bool:
        """Whether completions wait for the store to take anything again."""
        return bool(self._kept)

    def put(self, unit: Unit, reply: asyncio.Future[Any] | None) -> None:
        """Accept a command. Raises Overloaded when MAILBOX_MAX are waiting, or the first for MAILBOX_WAIT_US."""
        now_us = monotonic_us()
        if reply is not None and self._commands:
            if len(self._commands) >= MAILBOX_MAX:
                msg = f"{MAILBOX_MAX} commands are waiting for the database; nothing was stored, try again later"
                raise Overloaded(msg)
            waited_us = now_us - self._commands[0].accepted_us
            if waited_us > MAILBOX_WAIT_US and len(self._commands) > TURN_COMMANDS_MAX:
                msg = (
                    f"{len(self._commands)} commands are waiting for the database, the first for"
                    f" {waited_us / SECOND_US:.0f} s; nothing was stored, try again later"
                )
                raise Overloaded(msg)
        self._commands.append(Command(unit, reply, now_us))

    def take(self, count: int) -> list[Command]:
        """Remove and return the first commands, without those whose caller has gone: they are withdrawn."""
        taken: list[Command] = []
        while self._commands and len(taken) < count:
            command = self._commands.popleft()
            if command.reply is None or not command.reply.done():
                taken.append(command)
        return taken

    def put_back(self, commands: list[Command]) -> None:
        """Return commands to the head, in their order: the turn had no time for them."""
        self._commands.extendleft(reversed(commands))

    def keep(self, command: Command) -> None:
        """Hold a completion that the store could not take."""
        self._kept.append(command)

    def release_kept(self) -> None:
        """Put what was kept back at the head."""
        self._commands.extendleft(reversed(self._kept))
        self._kept.clear()

    def refuse_all(self, error: BaseException) -> None:
        """Answer every waiting command with an error; completions stay."""
        waiting, self._commands = self._commands, deque()
        for command in waiting:
            if command.reply is None:
                self._commands.append(command)
            command.refuse(error)
