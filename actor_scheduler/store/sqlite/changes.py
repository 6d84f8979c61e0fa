"""What the open transaction has done so far, beside what stands in the file: for the index, and for those who wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from actor_scheduler.store.base import Effects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from actor_scheduler.model import Entry


_CANCELING_MAX: Final = 10_000  # remembered, the newest; ~100 B each


class Mark(NamedTuple):
    """Where a savepoint began, in the lists that SQLite does not roll back for us."""

    pending: int
    gone: int
    ended: int
    stopping: int


class Changes:
    """Notes what a transaction changes for the world outside the file.

    Invariant: `effects` describes exactly what the open transaction has done to the set of pending jobs.
    """

    def __init__(self, canceling: Iterable[int] = ()) -> None:
        self.effects = Effects()
        self.canceled: set[int] = set()  # of `effects.gone`, for a quick look
        self.lanes: set[str] = set()  # whose head may be another one now; too many do no harm
        # Crons that may have another fire time now, and their entries in the index before; too many do no harm.
        self.crons: dict[int, Entry | None] = {}
        # Running actions that were asked to be canceled, durably. They stay in here when their jobs have ended: one
        # that does not listen may go on, and schedule, long after that.
        self._canceling: dict[int, None] = dict.fromkeys(canceling)

    def begin(self) -> None:
        """Forget what a transaction before left behind."""
        self.effects = Effects()
        self.canceled.clear()
        self.lanes.clear()
        self.crons.clear()

    def committed(self) -> Effects:
        """Return what the transaction changed, now that it is durable."""
        effects = self.effects
        if effects.stopping:
            self._canceling.update((seq, None) for seq, _ in effects.stopping)
            while len(self._canceling) > _CANCELING_MAX:
                del self._canceling[next(iter(self._canceling))]
        return effects

    def mark(self) -> Mark:
        """Return where a savepoint begins."""
        effects = self.effects
        return Mark(len(effects.pending), len(effects.gone), len(effects.ended), len(effects.stopping))

    def rewind(self, mark: Mark) -> None:
        """Forget what was done since a savepoint that is rolled back."""
        effects = self.effects
        del effects.pending[mark.pending :]
        if len(effects.gone) > mark.gone:
            del effects.gone[mark.gone :]
            self.canceled = {entry.seq for _, entry in effects.gone}
        del effects.ended[mark.ended :]
        del effects.stopping[mark.stopping :]

    def waits(self, queue: str, entry: Entry) -> None:
        """Note a job that waits in a queue from now on."""
        self.effects.pending.append((queue, entry))

    def leaves(self, queue: str, entry: Entry) -> None:
        """Note a job that waits in a queue no more, without having been started."""
        self.effects.gone.append((queue, entry))
        self.canceled.add(entry.seq)

    @property
    def any_canceling(self) -> bool:
        """Whether any running action was asked to be canceled."""
        return bool(self._canceling or self.effects.stopping)

    def is_canceling(self, seq: int) -> bool:
        """Whether this running action was asked to be canceled."""
        return seq in self._canceling or any(seq == asked for asked, _ in self.effects.stopping)
