"""One turn: its time budget, its snapshots beside it, and the window that a refill fills."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from actor_scheduler.limits import TURN_US_MAX
from actor_scheduler.model import ACTIONS, MUTATIONS
from actor_scheduler.store.base import Done, Mutate, Snapshot, Tx
from actor_scheduler.store.sqlite import turn
from actor_scheduler.store.sqlite.thread import ThreadDb
from actor_scheduler.testing import conformance
from actor_scheduler.testing.bench import Bench, action, claims, mutation, read_items, writes


class Stopwatch:
    """A monotonic clock that only moves when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = 0
        monkeypatch.setattr(turn, "monotonic_us", lambda: self.now_us)

    def takes(self, span_us: int, name: str) -> Any:
        """Return a body that writes an item and takes this long."""

        async def body(tx: Tx) -> str:
            self.now_us += span_us
            return await writes(name)(tx)

        return body


@pytest.mark.parametrize(
    ("span_us", "fit"),
    [(TURN_US_MAX + 1, 1), (TURN_US_MAX, 2), (TURN_US_MAX // 3 + 1, 3), (1, 8), (10 * TURN_US_MAX, 1)],
)
async def test_a_turn_begins_no_unit_past_its_time(
    span_us: int, fit: int, open_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits is answered and durable, the rest was not begun and may be handed in again; one always fits."""
    watch = Stopwatch(monkeypatch)
    async with open_bench(*conformance.SCHEMA) as bench:
        units = [Mutate(watch.takes(span_us, str(at))) for at in range(8)]
        result = await bench.store.apply(units, [])
        assert result.replies == [Done(str(at)) for at in range(fit)]
        assert result.broken is None
        assert await bench.items() == {str(at): 1 for at in range(fit)}
        assert len(await bench.run(*units[fit:])) == 8 - fit
        assert await bench.items() == {str(at): 1 for at in range(8)}


async def test_claims_past_the_time_are_put_back(open_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An action after a slow mutation is still pending, and is claimed by the next turn, once."""
    watch = Stopwatch(monkeypatch)
    async with open_bench(*conformance.SCHEMA) as bench:
        bench.host.bodies["m"] = watch.takes(TURN_US_MAX + 1, "slow")
        ids = await bench.insert(mutation(), action(), action())
        units = [*await bench.due(MUTATIONS), *await bench.due(ACTIONS)]
        result = await bench.store.apply(units, [])
        assert result.replies == [Done()]
        assert await bench.states(ids) == ["success", "pending", "pending"]
        assert [job.id for job in claims(await bench.run(*units[1:]))] == ids[1:]


async def test_a_query_keeps_its_snapshot_while_a_turn_commits_beside_it(open_bench: Any) -> None:
    """Between two reads of one query a whole turn commits: the second read sees what the first one saw."""
    read_once, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def slow(snapshot: Snapshot) -> list[Any]:
        seen = [await read_items(snapshot)]
        loop.call_soon_threadsafe(read_once.set)
        assert go_on.wait(10)
        return [*seen, await read_items(snapshot)]

    async with open_bench(*conformance.SCHEMA, make_db=ThreadDb) as bench:
        await bench.mutate(writes("before"))
        asking = asyncio.ensure_future(bench.ask(slow))
        await read_once.wait()
        await bench.mutate(writes("meanwhile"))
        assert await bench.items() == {"before": 1, "meanwhile": 1}
        go_on.set()
        assert await asking == [{"before": 1}] * 2


async def test_queries_beyond_the_readers_wait_their_turn(open_bench: Any) -> None:
    """Many queries at once, some failing, some canceled, leave every reader usable."""

    async def fails(snapshot: Snapshot) -> None:
        await snapshot.fetch_all("SELECT * FROM missing", ())

    async with open_bench(*conformance.SCHEMA, make_db=ThreadDb) as bench:
        await bench.mutate(writes("a"))
        asking = [asyncio.ensure_future(_ask(bench, fails if at % 3 == 0 else read_items)) for at in range(30)]
        await asyncio.sleep(0)
        for task in asking[1::3]:
            task.cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(answer).__name__ for answer in answers[::3]} == {"DatabaseError"}
        assert {type(answer).__name__ for answer in answers[1::3]} == {"CancelledError"}
        assert answers[2::3] == [{"a": 1}] * 10
        assert await asyncio.gather(*(bench.items() for _ in range(8))) == [{"a": 1}] * 8


async def _ask(bench: Bench, what: Any) -> Any:
    return await bench.ask(what)
