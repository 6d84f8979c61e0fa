"""More of what every store must do: what operators want of jobs that have not started.

A part of the conformance suite: `conformance.CASES` has these too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actor_scheduler import codec
from actor_scheduler.crons.catchup import CatchUp
from actor_scheduler.errors import InvalidArgs
from actor_scheduler.ids import parse_id
from actor_scheduler.model import (
    ACTIONS,
    MUTATIONS,
    Again,
    Counted,
    Entry,
    Failed,
    JobFilter,
    Mark,
    Overview,
    Succeeded,
)
from actor_scheduler.store.base import (
    CancelJobs,
    CompleteJob,
    Done,
    DropJobs,
    Effects,
    PromoteJob,
    RetryJobs,
    Swept,
    Tx,
)
from actor_scheduler.store.cron_units import PauseCron, PutCron, RunCron
from actor_scheduler.testing.bench import SECOND, Bench, Boom, action, claims, mutation, opened, refused, writes
from actor_scheduler.testing.clock import START_US
from actor_scheduler.testing.cron_bench import EVERY_FIVE, MINUTE, CronBench, cron
from actor_scheduler.times import to_datetime

if TYPE_CHECKING:
    from actor_scheduler.crons.records import CronRun
    from actor_scheduler.model import DueJob, Page, Upcoming
    from actor_scheduler.testing.bench import Case, MakeStore

_AGAIN: Final = Again(Failed("error", "Boom: no"), 7 * SECOND)
_ALL: Final = JobFilter()


async def _claim(bench: Bench) -> DueJob:
    (job,) = claims(await bench.run(*await bench.due(ACTIONS)))
    return job


async def _entries(bench: Bench) -> list[Entry]:
    return [entry for queue in (ACTIONS, MUTATIONS) for entry in await bench.entries(queue)]


# ------------------------------------------------------------------ many are canceled


async def many_are_canceled_page_by_page(make_store: MakeStore) -> None:
    """Only what fits the filter and is pending: in a lane, under a key, between two attempts; the index is told."""
    async with opened(make_store) as bench:
        bench.host.again["a"] = SECOND
        (runs, again) = await bench.insert(action(), action(after_us=1))
        first, second = claims(await bench.run(*await bench.due(ACTIONS)))
        assert await bench.value(CompleteJob(second, _AGAIN, START_US)) is True
        lane = [mutation(lane="l", after_us=at) for at in range(2)]
        ids = await bench.insert(mutation(key="k"), *lane, *[mutation("n", after_us=9)] * 3)
        before = await _entries(bench)
        of_n = JobFilter(paths=("n",))
        assert await bench.value(CancelJobs(JobFilter(state="failed"), None, 100)) == Swept(0, None)
        swept: Swept = await bench.value(CancelJobs(of_n, None, 2))
        assert (swept.changed, len(bench.last.effects.gone)) == (2, 2)
        assert await bench.value(CancelJobs(of_n, swept.next_cursor, 2)) == Swept(1, None)
        assert await bench.value(CancelJobs(of_n, None, 100)) == Swept(0, None)
        assert await bench.states(ids) == ["pending"] * 3 + ["canceled"] * 3
        assert len(set(before) - set(await _entries(bench))) == 3
        assert await bench.value(CancelJobs(_ALL, None, 100)) == Swept(4, None)
        assert bench.last.effects.pending == []
        assert await bench.states([*ids, again, runs]) == ["canceled"] * 7 + ["in_progress"]
        assert await _entries(bench) == []
        assert await bench.insert(mutation(key="k", on_conflict="error")) != [ids[0]]
        assert await bench.value(CompleteJob(first, Succeeded(), START_US)) is True


async def a_mutation_that_cancels_many_leaves_itself_alone(make_store: MakeStore) -> None:
    """And when it fails, nobody was canceled."""
    async with opened(make_store) as bench:
        swept: list[Swept] = []

        async def cancels(tx: Tx) -> None:
            swept.append(await tx.cancel_jobs(_ALL, None, 100))
            if len(swept) == 1:
                raise Boom

        bench.host.again["stop"] = 0
        bench.host.bodies["stop"] = cancels
        ids = await bench.insert(mutation("stop"), mutation(after_us=9), action(lane="l"))
        before = await _entries(bench)
        due = (await bench.due(MUTATIONS))[0]
        await bench.run(due)
        assert await _entries(bench) == before
        await bench.run(due)
        assert swept == [Swept(2, None)] * 2
        assert await bench.states(ids) == ["success", "canceled", "canceled"]


# ------------------------------------------------------------------ a job is promoted


async def a_promoted_job_is_due_now(make_store: MakeStore) -> None:
    """Its entry moves, what was asked stays; one that is due keeps its place, and what is not pending is False."""
    async with opened(make_store) as bench:
        now_us = START_US + 5 * SECOND
        bench.clock.move_to(now_us)
        due, later, other = await bench.insert(mutation(), mutation(after_us=9 * SECOND), mutation(after_us=8 * SECOND))
        before = await bench.entries(MUTATIONS)
        assert await bench.run(*[PromoteJob(job_id) for job_id in (due, later, later)]) == [Done(True)] * 3
        moved = Entry(now_us, before[2].seq)
        assert bench.last.effects == Effects(pending=[(MUTATIONS, moved)], gone=[(MUTATIONS, before[2])])
        assert await bench.entries(MUTATIONS) == [before[0], moved, before[1]]
        row = await bench.job(later)
        assert (row.state, row.attempt, row.scheduled_at) == ("pending", 0, to_datetime(START_US + 9 * SECOND))
        await bench.restart()
        assert await bench.entries(MUTATIONS) == [before[0], moved, before[1]]
        bench.host.bodies["m"] = writes("x")
        await bench.run(*(await bench.due(MUTATIONS))[:2])
        assert await bench.states([due, later, other]) == ["success", "failed", "pending"]
        for gone in (due, later, "0" * 32, ""):
            assert await bench.value(PromoteJob(gone)) is False
        assert bench.last.effects == Effects()


async def a_promotion_ends_the_pause_before_the_next_attempt(make_store: MakeStore) -> None:
    """As its next attempt, by number; one that runs is not touched."""
    async with opened(make_store) as bench:
        (job_id,) = await bench.insert(action())
        job = await _claim(bench)
        assert await bench.value(PromoteJob(job_id)) is False
        assert await bench.value(CompleteJob(job, _AGAIN, START_US)) is True
        assert await bench.value(PromoteJob(job_id)) is True
        assert await bench.entries(ACTIONS) == [Entry(START_US, job.seq)]
        row = await bench.job(job_id)
        assert (row.state, row.attempt, row.error) == ("pending", 1, "Boom: no")
        assert (await _claim(bench)).attempt == 2


async def a_promoted_job_waits_for_its_turn_in_its_lane(make_store: MakeStore) -> None:
    """Before those of its lane that are not due; behind one that is, one that is tried again, and one that runs."""
    async with opened(make_store) as bench:
        head, last = await bench.insert(action(lane="l", after_us=SECOND), action(lane="l", after_us=9 * SECOND))
        (entry,) = await bench.entries(ACTIONS)
        assert await bench.value(PromoteJob(last)) is True
        (promoted,) = await bench.entries(ACTIONS)
        assert promoted == Entry(START_US, promoted.seq) != entry
        job = await _claim(bench)
        assert job.id == last
        assert await bench.value(PromoteJob(head)) is True
        assert await bench.entries(ACTIONS) == []
        assert await bench.value(CompleteJob(job, _AGAIN, START_US)) is True
        (more,) = await bench.insert(action(lane="l", after_us=5 * SECOND))
        assert await bench.value(PromoteJob(more)) is True
        assert [each.seq for each in await bench.entries(ACTIONS)] == [job.seq]
        assert await bench.value(PromoteJob(last)) is True
        second = await _claim(bench)
        assert (second.id, second.attempt) == (last, 2)
        await bench.value(CompleteJob(second, Succeeded(), START_US))
        for expected in (head, more):
            job = await _claim(bench)
            assert job.id == expected
            await bench.value(CompleteJob(job, Succeeded(), START_US))


async def a_rolled_back_promotion_has_moved_nothing(make_store: MakeStore) -> None:
    """Undone with the mutation that promoted; one that would promote itself does no harm."""
    async with opened(make_store) as bench:
        ids = await bench.insert(mutation("own"), action(after_us=9), mutation(lane="l", after_us=9))
        answers: list[bool] = []

        async def promotes(tx: Tx) -> None:
            answers.extend([await tx.promote_job(job_id) for job_id in ids])
            if len(answers) == len(ids):
                raise Boom

        bench.host.again["own"] = 0
        bench.host.bodies["own"] = promotes
        before = await _entries(bench)
        own = (await bench.due(MUTATIONS))[0]
        await bench.run(own)
        assert bench.last.effects == Effects(pending=[(MUTATIONS, own.entry)])
        assert await _entries(bench) == before
        await bench.run(own)
        assert answers == [False, True, True] * 2
        assert [entry.fire_at_us for entry in await _entries(bench)] == [START_US] * 2


async def a_job_that_is_promoted_in_a_turn_starts_in_the_next(make_store: MakeStore) -> None:
    """With a clock that was set back, one that was taken as due waits again: its old entry starts nothing."""
    async with opened(make_store) as bench:
        ids = await bench.insert(action(after_us=5), mutation(after_us=5))
        bench.host.bodies["m"] = writes("x")
        due = [*await bench.due(ACTIONS), *await bench.due(MUTATIONS)]
        replies = await bench.run(*[PromoteJob(job_id) for job_id in ids], *due)
        assert replies == [Done(True), Done(True), Done(), Done()]
        assert await bench.states(ids) == ["pending", "pending"]
        assert {entry for _, entry in bench.last.effects.gone} == {unit.entry for unit in due}
        assert [entry.fire_at_us for _, entry in bench.last.effects.pending] == [START_US] * 2


# ------------------------------------------------------------------ looking


async def a_text_is_found_wherever_it_stands(make_store: MakeStore) -> None:
    """In names in either case, in arguments as it is; nothing in it has a meaning; pages and sweeps go by it too."""
    async with opened(make_store) as bench:
        args = codec.encode({"email": "Ann_B@example.com", "n": 7})
        bench.host.bodies["m"] = writes("x", then=Boom)
        ids = await bench.insert(
            mutation("mail:Send"), mutation(key="Ann-1"), mutation(idempotency_key="100%"), action(lane="L_ane"),
            action()._replace(args=args), mutation("m", after_us=1),
        )  # fmt: skip
        await bench.run(*(await bench.due(MUTATIONS))[-1:])
        for text, found in (
            ("mail:s", {0}), ("ann-1", {1}), ("Ann", {1, 4}), ("ANN", {1}), ("0%", {2}), ("%", {2}), ("l_a", {3}),
            ("_", {3, 4}), ("@example", {4}), ("@EXAMPLE", set()), ("boom: x", {5}), ("nowhere", set()),
            (ids[3].upper(), {3}),
        ):  # fmt: skip
            which = JobFilter(text=text)
            page = await bench.ask(lambda snapshot, which=which: snapshot.list_jobs(which, None, 100))  # type: ignore[misc]
            assert {ids.index(job.id) for job in page.items} == found, text
            assert await bench.ask(lambda snapshot, which=which: snapshot.count_jobs(which)) == len(found)  # type: ignore[misc]
            counted = await bench.ask(lambda snapshot, which=which: snapshot.count_jobs_up_to(which, 100))  # type: ignore[misc]
            assert counted == Counted(len(found), complete=True)
        assert await bench.value(CancelJobs(JobFilter(text="ann"), None, 100)) == Swept(1, None)
        assert await bench.value(RetryJobs(JobFilter(text="Ann"), None, 100, START_US)) == Swept(0, None)
        assert await bench.value(RetryJobs(JobFilter(text="boom"), None, 100, START_US)) == Swept(1, None)
        assert await bench.value(DropJobs(JobFilter(text="ann"), None, 100)) == Swept(1, None)
        assert await bench.count() == 5


async def a_count_looks_at_so_many_jobs(make_store: MakeStore) -> None:
    """Of all jobs at the newest, of those in a state at these; and it says whether that was all."""
    async with opened(make_store) as bench:
        bench.host.bodies["m"] = writes("x", then=Boom)
        await bench.insert(*[mutation("m")] * 3, *[action(key=str(at)) for at in range(4)])
        await bench.run(*await bench.due(MUTATIONS))
        for which, rows, expected in (
            (JobFilter(), 7, Counted(7, complete=True)), (JobFilter(), 6, Counted(6, complete=False)),
            (JobFilter(paths=("m",)), 5, Counted(1, complete=False)),
            (JobFilter(state="failed"), 3, Counted(3, complete=True)),
            (JobFilter(state="failed"), 2, Counted(2, complete=False)),
            (JobFilter(state="pending"), 4, Counted(4, complete=True)),
            (JobFilter(state="pending", key="2"), 4, Counted(1, complete=True)),
            (JobFilter(state="success"), 7, Counted(0, complete=True)),
        ):  # fmt: skip
            ask = (which, rows)
            assert await bench.ask(lambda snapshot, ask=ask: snapshot.count_jobs_up_to(*ask)) == expected, ask  # type: ignore[misc]


async def what_comes_after_a_mark_is_left_alone(make_store: MakeStore) -> None:
    """Jobs that were accepted after it, and such that have ended since: in a page, in counts, and in sweeps."""
    async with opened(make_store) as bench:
        bench.host.bodies["m"] = writes("x", then=Boom)
        ids = await bench.insert(mutation("m"), mutation("m"), *[action(key=str(at)) for at in range(3)])
        before = await bench.due(MUTATIONS)
        await bench.run(before[0])
        newest = parse_id(ids[-1])
        assert newest is not None
        mark = Mark(newest[0], bench.clock.now_us())
        bench.clock.step(1)
        later = await bench.insert(mutation("m"), action(key="later"))
        await bench.run(before[1], *(await bench.due(MUTATIONS))[-1:])
        assert await bench.states([*ids, *later]) == ["failed"] * 2 + ["pending"] * 3 + ["failed", "pending"]
        for state, found in ((None, {0, 2, 3, 4}), ("failed", {0}), ("pending", {2, 3, 4}), ("success", set())):
            for text in (None, "m", "nowhere"):
                which = JobFilter(state=state, text=text, until=mark)  # type: ignore[arg-type]
                wanted = found if text is None else found & {0} if text == "m" else set()
                page = await bench.ask(lambda snapshot, which=which: snapshot.list_jobs(which, None, 100))  # type: ignore[misc]
                assert {ids.index(job.id) for job in page.items} == wanted, which
                assert await bench.ask(lambda snapshot, which=which: snapshot.count_jobs(which)) == len(wanted)  # type: ignore[misc]
                counted = await bench.ask(lambda snapshot, which=which: snapshot.count_jobs_up_to(which, 5))  # type: ignore[misc]
                assert counted == Counted(len(wanted), complete=True), which
        until = JobFilter(until=mark)
        assert await bench.value(DropJobs(JobFilter(until=Mark(0, mark.at_us)), None, 100)) == Swept(0, None)
        assert await bench.value(RetryJobs(until, None, 100, bench.clock.now_us())) == Swept(1, None)
        assert await bench.value(CancelJobs(until, None, 100)) == Swept(4, None)
        assert await bench.value(DropJobs(until, None, 100)) == Swept(0, None)
        assert await bench.states([*ids, *later]) == [
            "canceled", "failed", "canceled", "canceled", "canceled", "failed", "pending",
        ]  # fmt: skip


async def an_overview_counts_what_waits_and_what_is_kept(make_store: MakeStore) -> None:
    """By state, by what is due, and the crons; nothing is due in an empty store."""
    async with opened(make_store) as bench:
        assert await bench.ask(lambda snapshot: snapshot.overview()) == Overview(0, 0, 0, 0, 0, None, 0, 0, 0)
        bench.host.bodies["m"] = writes("x")
        bench.clock.move_to(START_US + SECOND)
        await bench.insert(mutation(), mutation("unknown"), action(), action(after_us=-5, lane="l"))
        await bench.run(*await bench.due(MUTATIONS), (await bench.due(ACTIONS))[1])
        await bench.insert(*[action(after_us=at, lane="l") for at in (-9, SECOND, SECOND + 1)])
        for name in ("a", "b"):
            await bench.value(PutCron(cron(name)))
        await bench.value(PauseCron("b", ""))
        overview: Overview = await bench.ask(lambda snapshot: snapshot.overview())
        assert overview == Overview(
            pending=4, due=3, in_progress=1, failed=1, ended=2, oldest_due_at=to_datetime(START_US - 9), crons=2,
            crons_paused=1, crons_troubled=0,
        )  # fmt: skip


async def what_is_upcoming_comes_in_order_of_time(make_store: MakeStore) -> None:
    """Jobs of every queue, parked ones too, and crons; never what runs, has ended, or is paused."""
    async with opened(make_store) as bench:
        ids = await bench.insert(
            action(), mutation(after_us=3 * SECOND, key="k"), action(after_us=SECOND, lane="l", priority=5),
            mutation(after_us=2 * SECOND, lane="l"), action(after_us=10**10),
        )  # fmt: skip
        await _claim_first(bench)
        for name, path in (("a", "p"), ("b", "q")):
            await bench.value(PutCron(cron(name, path=path)))
        await bench.value(PauseCron("b", ""))
        coming: list[Upcoming] = await bench.ask(lambda snapshot: snapshot.upcoming(100))
        assert [(each.kind, each.id, each.path, each.cron, each.key) for each in coming] == [
            ("job", ids[2], "a", None, None), ("job", ids[3], "m", None, None), ("job", ids[1], "m", None, "k"),
            ("cron", None, "p", "a", None), ("job", ids[4], "a", None, None),
        ]  # fmt: skip
        assert [each.at for each in coming[:2]] == [to_datetime(START_US + at * SECOND) for at in (1, 2)]
        assert coming[3].at == to_datetime(START_US + 5 * MINUTE)
        assert await bench.ask(lambda snapshot: snapshot.upcoming(2)) == coming[:2]
        for wrong in (0, 1_001, True):
            await refused(bench.ask(lambda snapshot, wrong=wrong: snapshot.upcoming(wrong)), InvalidArgs)  # type: ignore[misc]


async def _claim_first(bench: Bench) -> None:
    assert claims(await bench.run((await bench.due(ACTIONS))[0]))


async def every_run_and_skip_comes_on_one_page(make_store: MakeStore) -> None:
    """Whatever the length of the pages, and though many are of one moment; by state, too."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron("a")), PutCron(cron("b", EVERY_FIVE, rule=CatchUp(missed="all"))))
        await crons.fire(20 * MINUTE)
        await crons.do(*[RunCron("a", START_US)] * 3)
        await crons.run()
        await crons.fire(35 * MINUTE)
        await crons.do(PauseCron("b", ""))
        for name in (None, "a", "b"):
            whole = await crons.runs(name)
            assert len(whole) > 3
            for limit in (1, 2, 3, 100):
                assert await _walk(bench, name, None, limit) == whole, (name, limit)
            for state in ("success", "pending", "skipped", "canceled"):
                chosen = [run for run in whole if run.state == state]
                assert await _walk(bench, name, state, 2) == chosen
                ask = (name, 1_000, None, state)
                assert await bench.ask(lambda snapshot, ask=ask: snapshot.cron_runs(*ask)) == chosen  # type: ignore[misc]
        assert {run.state for run in await crons.runs(None)} == {"success", "pending", "skipped"}
        for wrong in ("", "x", "1", "1.2", "1.2_3.4", "1.2_3_4", f"{1 << 63}.1_1"):
            asked = bench.ask(lambda snapshot, wrong=wrong: snapshot.cron_runs_page(None, None, wrong, 10))  # type: ignore[misc]
            await refused(asked, InvalidArgs)


async def _walk(bench: Bench, name: str | None, state: Any, limit: int) -> list[CronRun]:
    found: list[CronRun] = []
    cursor: str | None = None
    while True:
        ask = (name, state, cursor, limit)
        page: Page[CronRun] = await bench.ask(lambda snapshot, ask=ask: snapshot.cron_runs_page(*ask))  # type: ignore[misc]
        assert len(page.items) <= limit
        found.extend(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found


CASES: Final[tuple[Case, ...]] = (
    many_are_canceled_page_by_page, a_mutation_that_cancels_many_leaves_itself_alone, a_promoted_job_is_due_now,
    a_promotion_ends_the_pause_before_the_next_attempt, a_promoted_job_waits_for_its_turn_in_its_lane,
    a_rolled_back_promotion_has_moved_nothing, a_job_that_is_promoted_in_a_turn_starts_in_the_next,
    a_text_is_found_wherever_it_stands, a_count_looks_at_so_many_jobs, what_comes_after_a_mark_is_left_alone,
    an_overview_counts_what_waits_and_what_is_kept, what_is_upcoming_comes_in_order_of_time,
    every_run_and_skip_comes_on_one_page,
)  # fmt: skip
