"""What due mutations need before their turn that can only be awaited on the loop: the identity they act as."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from actor_scheduler.errors import said
from actor_scheduler.queues import holds_mutations
from actor_scheduler.store.base import Host, RunDue, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from actor_scheduler.model import DueJob, Entry

log = logging.getLogger("actor_scheduler")


class Preparation:
    """Prepares one batch of due entries at a time, so that their order holds.

    Invariant: an entry in here stands in no window of the index.
    """

    def __init__(
        self, store: Store, host: Host, stir: Callable[[], object], failed: Callable[[list[RunDue]], object]
    ) -> None:
        self._store = store
        self._host = host
        self._stir = stir
        self._failed = failed
        self._task: asyncio.Task[None] | None = None
        self._ready: list[RunDue] = []
        self._gone: set[Entry] = set()  # left their queues while they were in here

    @property
    def needed(self) -> bool:
        """Whether due entries must come through here."""
        return self._host.prepares

    @property
    def under_way(self) -> bool:
        """Whether a batch is being prepared: no other may be taken before it."""
        return self._task is not None

    @property
    def ready(self) -> bool:
        """Whether a batch waits for its turn."""
        return bool(self._ready)

    def take(self) -> list[RunDue]:
        """Return the batch that is ready."""
        due, self._ready = self._left(self._ready), []
        return due

    def start(self, due: list[RunDue]) -> None:
        """Begin with a batch; `stir` is called when it is ready, `failed` with the batch when it can't be read."""
        self._gone.clear()
        self._task = asyncio.create_task(self._prepare(due), name="prepare due mutations")

    def forget(self, gone: Iterable[tuple[str, Entry]]) -> None:
        """Leave out entries that were canceled, or parked in their lane, while they were in here."""
        if self._task is not None or self._ready:
            self._gone.update(entry for _, entry in gone)

    def _left(self, due: list[RunDue]) -> list[RunDue]:
        return [unit for unit in due if unit.entry not in self._gone] if self._gone else due

    async def _prepare(self, due: list[RunDue]) -> None:
        seqs = [unit.entry.seq for unit in due if holds_mutations(unit.queue)]
        try:
            jobs: dict[int, DueJob] = await self._store.query(lambda snapshot: snapshot.due_jobs(seqs), None)
            gave = await asyncio.gather(*(self._host.prepare(job) for job in jobs.values()))
            prepared = dict(zip(jobs, gave, strict=True))
            self._ready = [RunDue(unit.queue, unit.entry, prepared.get(unit.entry.seq)) for unit in due]
        except asyncio.CancelledError:
            self._failed(self._left(due))  # harmless where the app stops, or the index is built again
        except BaseException as error:  # noqa: BLE001 - whatever it was, the batch must not be lost
            log.warning("due jobs could not be read, trying again: %s", said(error))
            self._failed(self._left(due))
        finally:
            self._task = None
            self._stir()

    async def stop(self) -> None:
        """Forget the batch: it stands in the index that is built next."""
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._ready.clear()
