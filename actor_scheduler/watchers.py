"""Who waits for a job to end."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable


class Watchers:
    """Futures by the job they wait for."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}

    @contextlib.contextmanager
    def watch(self, seq: int) -> Generator[asyncio.Future[None]]:
        """Yield a future that is done once this job has ended, or the store was reopened: look at the job then.

        Taken before the job is read, so that an end between the two is not missed.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(seq, []).append(waiter)
        try:
            yield waiter
        finally:
            waiter.cancel()
            waiting = self._waiting.get(seq, [])
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                self._waiting.pop(seq, None)

    def tell(self, seqs: Iterable[int]) -> None:
        """Wake who waits for these jobs."""
        for seq in seqs:
            for waiter in self._waiting.pop(seq, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def tell_all(self) -> None:
        """Wake everybody: after a reopening any job may have ended unseen."""
        self.tell(list(self._waiting))

    def fail_all(self, error: BaseException) -> None:
        """Give everybody an error: nobody will see the end of anything."""
        for waiter in [waiter for waiting in self._waiting.values() for waiter in waiting]:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiting.clear()
