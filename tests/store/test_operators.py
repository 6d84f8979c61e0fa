"""What operators ask of the file: what is promoted stays in step with the index, and a look is whole and bounded."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.crons.records import CronRun
from actor_scheduler.ids import parse_id
from actor_scheduler.model import ACTIONS, MUTATIONS, Again, DueJob, Entry, Failed, JobFilter, Mark, Succeeded
from actor_scheduler.store.base import (
    CancelJob,
    CancelJobs,
    Claimed,
    CompleteJob,
    Done,
    DropJobs,
    InsertJobs,
    PromoteJob,
    RunDue,
    Unit,
)
from actor_scheduler.store.sqlite import SqliteStore, cron_runs, job_rows, overview
from actor_scheduler.store.sqlite.schema import migrate
from actor_scheduler.store.sqlite.thread import InlineDb
from actor_scheduler.testing.bench import Bench, action, mutation, opened
from actor_scheduler.times import from_datetime
from tests.store.test_routing import raw, steps

QUICK = settings(max_examples=60, deadline=None, derandomize=True, database=None)
AGAIN = Again(Failed("error", "x"), 5)
QUEUES = (ACTIONS, MUTATIONS)


# ------------------------------------------------------------------ a job is promoted


class World:
    """A store, and an index that is kept as an actor keeps it: by what turns tell, first what is gone."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.index: dict[str, set[Entry]] = {queue: set() for queue in QUEUES}
        self.ids: list[str] = []
        self.running: dict[str, DueJob] = {}
        bench.host.bodies["m"] = writes_nothing

    async def turn(self, *units: Unit, set_back_us: int = 0) -> list[Any]:
        """Run a turn of commands and of everything that is due; the clock may be set back right before."""
        now_us = self.bench.clock.now_us()
        due = [
            RunDue(queue, entry)
            for queue in QUEUES
            for entry in sorted(self.index[queue])
            if entry.fire_at_us <= now_us
        ]
        self.bench.clock.step(-set_back_us)
        return await self.exactly(*units, *due)

    async def exactly(self, *units: Unit) -> list[Any]:
        """Run a turn of these units, and check that the index holds what the file has."""
        for unit in units:
            if isinstance(unit, RunDue):
                self.index[unit.queue].discard(unit.entry)
        replies = await self.bench.run(*units)
        assert all(isinstance(reply, Done) for reply in replies)
        values = [reply.value for reply in replies if isinstance(reply, Done)]
        for value in values:
            if isinstance(value, Claimed):
                self.running[value.job.id] = value.job
        for queue, entry in self.bench.last.effects.gone:
            self.index[queue].discard(entry)
        for queue, entry in self.bench.last.effects.pending:
            self.index[queue].add(entry)
        for queue in QUEUES:
            assert sorted(self.index[queue]) == await self.bench.entries(queue)
        return values

    async def promote(self, job_id: str) -> None:
        """Promote a job, and check what became of it."""
        before, now_us = await self.bench.job(job_id), self.bench.clock.now_us()
        (promoted,) = await self.exactly(PromoteJob(job_id))
        after = await self.bench.job(job_id)
        assert promoted is (before.state == "pending")
        fire_at_us = from_datetime(before.fire_at)
        assert from_datetime(after.fire_at) == (min(fire_at_us, now_us) if promoted else fire_at_us)
        assert (after.scheduled_at, after.state, after.attempt) == (before.scheduled_at, before.state, before.attempt)

    async def check_lanes(self) -> None:
        """One job of a lane runs or stands in a queue: one that has begun, else the earliest."""
        waiting: dict[str, list[tuple[bool, int, int, bool]]] = {}
        for lane, *place in raw(self.bench).execute(
            "SELECT lane, attempt = 0, fire_at_us, seq, queue < '~' OR state = 'in_progress' FROM main._scheduler_jobs"
            " WHERE lane IS NOT NULL AND state IN ('pending', 'in_progress') /* test */"
        ):
            waiting.setdefault(lane, []).append(tuple(place))
        for line in waiting.values():
            assert [stands for _, _, _, stands in sorted(line)] == [1] + [0] * (len(line) - 1)


async def writes_nothing(tx: Any) -> None:
    """Do nothing, as a due mutation."""
    del tx


numbers = st.integers(min_value=0, max_value=9)
inserts = st.tuples(
    st.just("insert"), st.sampled_from([action, mutation]), st.integers(min_value=-2, max_value=20),
    st.sampled_from([None, "l", "k"]),
)  # fmt: skip
moves = st.one_of(
    inserts,
    st.tuples(st.just("promote"), numbers),
    st.tuples(st.just("promote in a turn"), numbers, numbers, st.sampled_from([0, 0, 6])),
    st.tuples(st.just("cancel"), numbers),
    st.tuples(st.just("end"), numbers, st.sampled_from([AGAIN, Succeeded()])),
    st.tuples(st.just("clock"), st.integers(min_value=-8, max_value=12)),
    st.tuples(st.just("turn")),
)  # fmt: skip


async def take(world: World, move: tuple[Any, ...]) -> None:
    """Make one move, if it can be made."""
    ids = world.ids
    match move:
        case "insert", make, after_us, lane:
            ids.extend((await world.exactly(InsertJobs([make(after_us=after_us, lane=lane)])))[0])
        case "clock", span_us:
            world.bench.clock.step(span_us)
        case ("turn",):
            await world.turn()
        case "promote", number if ids:
            await world.promote(ids[number % len(ids)])
        case "promote in a turn", one, other, set_back_us if ids:
            units = [PromoteJob(ids[number % len(ids)]) for number in (one, other)]
            await world.turn(*units, set_back_us=set_back_us)
        case "cancel", number if ids:
            await world.exactly(CancelJob(ids[number % len(ids)]))
        case "end", number, outcome if world.running:
            job = world.running.pop(sorted(world.running)[number % len(world.running)])
            await world.exactly(CompleteJob(job, outcome, world.bench.clock.now_us()))


@given(first=st.lists(inserts, min_size=2, max_size=6), then=st.lists(moves, min_size=1, max_size=15))
@QUICK
def test_a_promotion_keeps_the_index_in_step_and_the_lanes_in_order(
    first: list[tuple[Any, ...]], then: list[tuple[Any, ...]]
) -> None:
    """Among inserts, cancels, attempts that end or are followed by another, and a clock that is set to and fro."""

    async def play(path: Path) -> None:
        make = partial(SqliteStore, path, lock_timeout_us=0, make_db=InlineDb, synchronous="OFF")
        async with opened(lambda host, clock: make(host, clock)) as bench:
            world = World(bench)
            for move in [*first, *then]:
                await take(world, move)
                await world.check_lanes()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder) / "app.db"))


# ------------------------------------------------------------------ a bounded look is whole


async def listed(bench: Bench, which: JobFilter, limit: int) -> list[str]:
    """Walk all pages, each of which looks at LOOK_MAX rows at most."""
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await bench.ask(lambda snapshot, at=cursor: snapshot.list_jobs(which, at, limit))  # type: ignore[misc]
        assert len(page.items) <= limit
        found.extend(job.id for job in page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("look_max", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_search_finds_all_however_little_a_page_looks_at(look_max: int, limit: int, open_bench: Any) -> None:
    """Each job that fits once, newest first; a sweep of the same text touches exactly these."""
    with mock.patch.object(job_rows, "LOOK_MAX", look_max):
        async with open_bench() as bench:
            bench.host.bodies["m"] = writes_nothing
            ids = await bench.insert(*[mutation("m" if at % 3 else "worse", key=f"k{at % 4}-{at}") for at in range(12)])
            await bench.run(*(await bench.due(MUTATIONS))[:9])
            for text, state in (("K1", None), ("k", None), ("k2", "failed"), ("worse", "failed"), ("k3", "pending")):
                which = JobFilter(text=text, state=state)
                jobs = [await bench.job(job_id) for job_id in ids[::-1]]
                wanted = [
                    job.id for job in jobs
                    if (text.lower() in (job.key or "") or text in job.path) and state in (None, job.state)
                ]  # fmt: skip
                assert await listed(bench, which, limit) == wanted
            for make, text, count in ((CancelJobs, "k", 3), (DropJobs, "k1", 3), (DropJobs, "worse", 3)):
                changed, cursor, taken = 0, None, 0
                while taken == 0 or cursor is not None:
                    swept = await bench.value(make(JobFilter(text=text), cursor, limit))
                    changed, cursor, taken = changed + swept.changed, swept.next_cursor, taken + 1
                assert changed == count
                assert taken <= 14


@pytest.mark.parametrize("look_max", [1, 3, 100])
@pytest.mark.parametrize("newest", [0, 1, 6, 11, 14])
async def test_a_mark_holds_over_the_pages(look_max: int, newest: int, open_bench: Any) -> None:
    """However little a page looks at, and wherever the mark stands: the same jobs in lists, counts and sweeps."""
    with mock.patch.object(job_rows, "LOOK_MAX", look_max):
        async with open_bench() as bench:
            bench.host.bodies["m"] = writes_nothing
            ids = await bench.insert(*[mutation("m" if at % 3 else "worse", key=f"k{at}") for at in range(12)])
            due = await bench.due(MUTATIONS)
            await bench.run(*due[:4])
            mark = Mark(newest, bench.clock.now_us())
            bench.clock.step(5)
            await bench.run(*due[4:9])
            ids += await bench.insert(*[mutation(key=f"late k{at}") for at in range(3)])
            jobs = [await bench.job(job_id) for job_id in ids[::-1]]
            among = [
                job for job in jobs
                if (parse_id(job.id) or (99, 0))[0] <= newest
                and (job.completed_at is None or from_datetime(job.completed_at) <= mark.at_us)
            ]  # fmt: skip
            for state, text in itertools.product((None, "pending", "failed", "success"), (None, "k1", "wors")):
                which = JobFilter(state=state, text=text, until=mark)  # type: ignore[arg-type]
                wanted = [
                    job.id for job in among
                    if state in (None, job.state) and (text is None or text in (job.key or "") or text in job.path)
                ]  # fmt: skip
                assert await listed(bench, which, 2) == wanted, which
                assert job_rows.count(raw(bench), which) == len(wanted), which
                for rows in (1, newest, 99):
                    count, complete = job_rows.count_up_to(raw(bench), which, rows)
                    assert count == len(wanted) or (count < len(wanted) and not complete)
                    assert complete or rows < newest
                swept, cursor, first = list[int](), None, True
                while first or cursor is not None:
                    first = False
                    page, cursor = job_rows.seqs(raw(bench), which, ("failed", "pending", "success"), cursor, 2)
                    swept += page
                assert [f"{seq:016x}" for seq in swept] == [job_id[:16] for job_id in wanted]


def test_a_count_up_to_a_mark_goes_through_the_index_of_the_state(tmp_path: Path) -> None:
    """The few that failed are counted without a look at the many that did not."""
    connection = file_of(tmp_path / "app.db", [], [])
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    for state in ("pending", "in_progress", "failed"):
        job_rows.count(connection, JobFilter(state=state, until=Mark(5, 5)))  # type: ignore[arg-type]
        job_rows.count_up_to(connection, JobFilter(state=state, until=Mark(5, 5)), 5)  # type: ignore[arg-type]
    connection.set_trace_callback(None)
    assert len(asked) == 6
    for statement in asked:
        assert "INDEX _scheduler_jobs_" in plan(connection, statement), statement
    connection.close()


MOMENTS = st.integers(min_value=0, max_value=4)
RUNS = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.booleans(), MOMENTS,
        st.sampled_from([("success", None), ("failed", "error"), ("canceled", None), ("canceled", "paused")]),
    ),
    max_size=14,
)  # fmt: skip
SKIPS = st.lists(st.tuples(st.sampled_from("ab"), MOMENTS, MOMENTS), max_size=6)
STATES = st.sampled_from([None, "success", "failed", "canceled", "skipped", "pending"])


def file_of(path: Path, runs: list[Any], skips: list[Any]) -> sqlite3.Connection:
    """Make a file with these runs and skips; many are of one moment, and the clock went to and fro."""
    connection = sqlite3.connect(path, isolation_level=None)
    migrate(connection, 0)
    for seq, (cron, manual, at_us, (state, cause)) in enumerate(runs, 1):
        connection.execute(
            "INSERT INTO _scheduler_jobs (seq, nonce, path, kind, queue, state, cause, fire_at_us, scheduled_at_us,"
            " created_at_us, args, cron, tick_us) VALUES (?, 0, 'p', 'mutation', 'mutation', ?, ?, 0, 0, ?, x'0180', ?, ?)",
            (seq, state, cause, at_us, cron, None if manual else seq * 10 + at_us),
        )
    for number, (cron, last_us, at_us) in enumerate(skips, 1):
        connection.execute(
            "INSERT INTO _scheduler_skips VALUES (?, ?, 'policy', 0, ?, 1, ?)", (number, cron, last_us, at_us)
        )
    return connection


@given(
    runs=RUNS, skips=SKIPS, name=st.sampled_from([None, "a", "b", "c"]), state=STATES,
    limit=st.integers(min_value=1, max_value=6), look_max=st.sampled_from([1, 2, 5, 100]),
)  # fmt: skip
@QUICK
def test_no_run_is_left_out_or_comes_twice_over_the_pages(
    runs: list[Any], skips: list[Any], name: str | None, state: Any, limit: int, look_max: int
) -> None:
    """Whatever shares a moment, and however little a page looks at: all pages together are what one is."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(cron_runs, "LOOK_MAX", look_max):
        connection = file_of(Path(folder) / "app.db", runs, skips)
        whole = [run for run in cron_runs.runs(connection, name, 1_000, None) if state in (None, run.state)]
        found: list[CronRun] = []
        cursor, pages = None, 0
        while pages == 0 or cursor is not None:
            page = cron_runs.page(connection, name, state, cursor, limit)
            assert len(page.items) <= limit
            assert page.items or page.next_cursor is None or state is not None
            found.extend(page.items)
            cursor, pages = page.next_cursor, pages + 1
            assert pages <= 3 * (len(runs) + len(skips)) + 3
        assert sorted(map(repr, found)) == sorted(map(repr, whole))
        assert cron_runs.runs(connection, name, 1_000, None, state) == whole
        connection.close()


# ------------------------------------------------------------------ how much a look costs


def plan(connection: Any, statement: str) -> str:
    """Return how SQLite goes about a statement."""
    values = (1,) * statement.count("?")
    return "\n".join(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (overview._PENDING, "INDEX _scheduler_jobs_due"),
        (overview._RUNNING, "INDEX _scheduler_jobs_running"),
        (overview._FAILED, "INDEX _scheduler_jobs_failed"),
        (overview._ENDED, "COVERING INDEX _scheduler_jobs_prune"),
        (overview._QUEUES, "INDEX _scheduler_jobs_due (queue>?)"),
        (overview._JOBS, "INDEX _scheduler_jobs_due (queue=?)"),
        (overview._TICKS, "INDEX _scheduler_crons_due"),
    ],
)
async def test_an_overview_reads_indexes_alone(statement: str, index: str, open_bench: Any) -> None:
    """None of its statements may scan the table of jobs, or sort."""
    async with open_bench() as bench:
        steps_planned = plan(raw(bench), statement)
        assert index in steps_planned
        assert "TEMP B-TREE" not in steps_planned
        assert "SCAN _scheduler_jobs\n" not in steps_planned + "\n"
        assert "SCAN main._scheduler_jobs\n" not in steps_planned + "\n"


@pytest.mark.parametrize("name", [None, "c"])
@pytest.mark.parametrize("state", [None, "failed", "skipped"])
@pytest.mark.parametrize("cursor", [False, True])
def test_a_page_of_runs_goes_through_indexes_alone(name: str | None, state: Any, cursor: bool, tmp_path: Path) -> None:
    """From the start or from a cursor, with a state or without: nothing is scanned, and nothing sorted."""
    connection = file_of(tmp_path / "app.db", [], [])
    asked: list[str] = []
    connection.set_trace_callback(asked.append)
    cron_runs.page(connection, name, state, (("5.5.5_5" if name else "5.5_5") if cursor else None), 10)
    cron_runs.runs(connection, name, 10, 5, state)
    connection.set_trace_callback(None)
    assert len(asked) > 2
    for statement in asked:
        planned = plan(connection, statement)
        assert "TEMP B-TREE" not in planned, statement
        assert "INDEX _scheduler_" in planned, statement
        assert (
            "SCAN _scheduler_jobs USING INDEX _scheduler_jobs_cron" in planned or "SCAN _scheduler_jobs" not in planned
        )
    connection.close()


async def test_a_search_looks_at_no_more_rows_than_it_may(open_bench: Any, tmp_path: Path) -> None:
    """A text that stands nowhere costs the same in 2,000 jobs as in 8,000; so does a sweep, and a bounded count."""
    cost: dict[int, list[int]] = {}
    with mock.patch.object(job_rows, "LOOK_MAX", 500):
        for total in (2_000, 8_000):
            async with open_bench(path=tmp_path / f"{total}.db", synchronous="OFF") as bench:
                for _ in range(total // 1_000):
                    await bench.store.apply([InsertJobs([action(key=None)] * 1_000)], [])
                cost[total] = []
                which = JobFilter(text="nowhere")
                for look in (
                    lambda: job_rows.page(raw(bench), which, None, 10),  # noqa: B023 - called at once
                    lambda: job_rows.seqs(raw(bench), which, ("pending",), None, 10),  # noqa: B023
                    lambda: job_rows.count_up_to(raw(bench), which, 500),  # noqa: B023
                ):
                    with steps(bench, every=10) as count_of:
                        look()
                    cost[total].append(count_of[0])
    assert all(count > 0 for count in cost[2_000])
    assert all(more < 1.2 * less for more, less in zip(cost[8_000], cost[2_000], strict=True))
