"""Who is told what, once a commit is durable: callers their answers, the host what its jobs came to."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from actor_scheduler.errors import OutcomeUnknown
from actor_scheduler.failures import tell
from actor_scheduler.store.base import CompleteJob, Done, Set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actor_scheduler.mailbox import Command, Mailbox
    from actor_scheduler.model import DueJob
    from actor_scheduler.settings import Settings
    from actor_scheduler.store.base import Effects, Host, Reply, Unit

log = logging.getLogger("actor_scheduler")


class Replies:
    """Releases replies, and knows the attempts whose completion is not durable yet."""

    def __init__(self, mailbox: Mailbox, settings: Settings, host: Host) -> None:
        self._mailbox = mailbox
        self._settings = settings
        self._host = host
        # Attempts that this process has started, by job, whose completion is not durable yet.
        self._unfinished: set[tuple[int, int]] = set()

    @property
    def unfinished(self) -> list[tuple[int, int]]:
        """The attempts that run, or whose completion may not have been stored, by job and number."""
        return list(self._unfinished)

    def started(self, job: DueJob) -> None:
        """Know of an attempt whose claim is durable."""
        self._unfinished.add((job.seq, job.attempt))

    def answer(self, command: Command, reply: Reply, effects: Effects) -> bool:
        """Release one reply. Return whether the store could not take the command though it must."""
        if command.reply is None:  # a completion: it is kept until the store takes it
            if isinstance(reply, Done):
                self._completed(command.unit, effects, stood=reply.value is not False)
                return False
            self._mailbox.keep(command)
            return True
        if isinstance(command.unit, Set) and isinstance(reply, Done):
            self._settings.apply(command.unit)
        command.answer(reply)
        return False

    def _completed(self, unit: Unit, effects: Effects, *, stood: bool) -> None:
        assert isinstance(unit, CompleteJob)
        self._unfinished.discard((unit.job.seq, unit.job.attempt))
        if stood:
            stored = tell(unit.job, unit.outcome, ended=unit.job.seq in effects.ended)
            self._host.attempted(unit.job, stored, unit.completed_at_us)
        else:
            log.error("the outcome of %s %s came too late: its row is another attempt's", unit.job.path, unit.job.id)

    def answer_unknown(self, commands: Sequence[Command], error: BaseException) -> None:
        """Tell everybody in a turn that was cut off that nobody knows."""
        for command in commands:
            if command.reply is None:
                self._mailbox.keep(command)
            unknown = OutcomeUnknown("the app was stopped while this call was being committed")
            unknown.__cause__ = error
            command.refuse(unknown)
