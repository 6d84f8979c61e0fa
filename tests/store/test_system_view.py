"""`_scheduled_functions`: the jobs, readable with ordinary SQL."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler import codec
from actor_scheduler.model import ACTIONS, MUTATIONS, Failed, JobFilter
from actor_scheduler.store.base import CompleteJob, Snapshot, Tx
from actor_scheduler.testing.bench import Bench, action, claims, mutation, writes
from actor_scheduler.testing.clock import START_US

DOCUMENTED = {
    "id", "name", "kind", "args", "scheduled_time_us", "completed_time_us", "started_time_us", "created_time_us", "state",
    "result", "result_truncated", "attempt", "key", "cause", "error", "error_code", "occurrence_id", "parent_id",
}  # fmt: skip
ARGS = {"n": 7, "text": "é\"'", "data": b"\x00\xff", "list": [None, True, 1.5], "map": {"a": {}}}


async def rows(bench: Bench, sql: str = "SELECT * FROM _scheduled_functions ORDER BY id") -> list[dict[str, Any]]:
    """Return what a query reads, having checked that a mutation reads the same."""

    async def body(snapshot: Snapshot) -> list[dict[str, Any]]:
        return [dict(row) for row in await snapshot.fetch_all(sql, ())]

    async def writing(tx: Tx) -> list[dict[str, Any]]:
        return await body(tx)

    seen = await bench.ask(body)
    assert await bench.mutate(writing) == seen
    return seen


def job(**options: Any) -> Any:
    """Return a mutation's job with all kinds of arguments."""
    return mutation(after_us=5, key="k", parent_id="p", **options)._replace(args=codec.encode(ARGS))


async def test_the_view_has_the_documented_columns_and_agrees_with_the_job(open_bench: Any) -> None:
    """Every column is there, and says what scheduler.get says of the same job."""
    async with open_bench() as bench:
        (job_id,) = await bench.insert(job())
        (row,) = await rows(bench)
        found = await bench.job(job_id)
        assert set(row) >= DOCUMENTED
        assert (row["id"], row["name"], row["kind"], row["state"]) == (job_id, "m", "mutation", "pending")
        assert (row["key"], row["parent_id"], row["attempt"]) == ("k", "p", 0)
        assert (row["scheduled_time_us"], row["created_time_us"]) == (START_US + 5, START_US)
        assert (row["occurrence_id"], row["completed_time_us"], row["result"]) == (found.occurrence_id, None, None)


async def test_arguments_and_results_are_json(open_bench: Any) -> None:
    """`args` and `result` are JSON text that SQLite's own functions read; bytes are shown as hex."""
    async with open_bench("CREATE TABLE items (name, amount)") as bench:
        bench.host.bodies["m"] = writes("done")
        await bench.insert(job())
        await bench.run(*await bench.due(MUTATIONS))
        (row,) = await rows(bench)
        assert json.loads(row["args"]) == {**ARGS, "data": "00ff"}
        assert json.loads(row["result"]) == "done"
        sql = "SELECT json_extract(args, '$.n') AS n FROM _scheduled_functions WHERE json_extract(args, '$.text') = 'é\"'''"
        assert await rows(bench, sql) == [{"n": 7}]


async def test_the_view_follows_a_job_through_its_states(open_bench: Any) -> None:
    """State, attempt, times, cause and error are those of the row at every step."""
    async with open_bench() as bench:
        await bench.insert(action())
        (claimed,) = claims(await bench.run(*await bench.due(ACTIONS)))
        (row,) = await rows(bench)
        assert (row["state"], row["attempt"], row["started_time_us"]) == ("in_progress", 1, START_US)
        await bench.run(CompleteJob(claimed, Failed("error", "no", code="NO"), START_US + 3))
        (row,) = await rows(bench)
        assert (row["state"], row["cause"], row["error"], row["error_code"]) == ("failed", "error", "no", "NO")
        assert (row["completed_time_us"], row["result"]) == (START_US + 3, None)


async def test_a_mutation_sees_the_jobs_it_has_just_scheduled(open_bench: Any) -> None:
    """The view is part of the transaction."""
    async with open_bench() as bench:

        async def body(tx: Tx) -> None:
            job_id = await tx.insert_job(mutation())
            seen = await tx.fetch_all("SELECT id FROM _scheduled_functions", ())
            assert [row["id"] for row in seen] == [job_id]

        await bench.mutate(body)


async def test_ids_of_the_view_lead_to_jobs_whatever_the_nonce(open_bench: Any) -> None:
    """The id the view computes is the job's own, for negative nonces too."""
    async with open_bench() as bench:
        ids = await bench.insert(*[mutation()] * 40)
        assert [row["id"] for row in await rows(bench, "SELECT id FROM _scheduled_functions ORDER BY id")] == ids
        assert any(job_id[16] in "89abcdef" for job_id in ids)
        assert any(job_id[16] in "01234567" for job_id in ids)


def damage(db: Path, args: bytes) -> None:
    """Overwrite the arguments of every job, as another program might."""
    other = sqlite3.connect(db)
    other.execute("UPDATE _scheduler_jobs SET args = ?", (args,))
    other.commit()
    other.close()


DAMAGE = {
    "empty": b"", "version": b"\x07\x80", "cut": b"\x01\x81", "extension": b"\x01\xd4\x05\x00", "not a map": b"\x01\x07",
    "text": b"\x01\xa1\xff",
}  # fmt: skip
DEEPER = {"bytes key": b"\x01\x81\xc4\x01a\x01", "too deep": b"\x01" + b"\x91" * 1_020 + b"\xc0"}


@pytest.mark.parametrize("what", [*DAMAGE, *DEEPER])
async def test_a_damaged_row_stays_readable(what: str, open_bench: Any, db: Path) -> None:
    """Arguments damaged at rest are null or what is left of them; the row, and the list it is in, can be read."""
    async with open_bench() as bench:
        (job_id,) = await bench.insert(job())
        damage(db, {**DAMAGE, **DEEPER}[what])
        (row,) = await rows(bench)
        assert (row["id"], row["state"]) == (job_id, "pending")
        page = await bench.ask(lambda snapshot: snapshot.list_jobs(JobFilter(), None, 10))
        assert (page.items[0].args, bool(page.items[0].args_error)) == ({}, True)


async def test_arguments_of_a_damaged_row_are_json_or_null(open_bench: Any, db: Path) -> None:
    """Whatever stands in the row, json_extract over the view never fails."""
    async with open_bench() as bench:
        await bench.insert(job())
        damage(db, b"\x01\x81\xa1n\xca\x7f\xc0\x00\x00")
        assert await rows(bench, "SELECT json_extract(args, '$.n') AS n FROM _scheduled_functions") == [{"n": None}]
