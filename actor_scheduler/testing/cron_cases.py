"""More of what every store must do: crons that fire, and what becomes of each of their ticks.

A part of the conformance suite: `conformance.CASES` has these too.
"""

# ruff: noqa: D401 - a case's docstring is the rule it pins

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from actor_scheduler.crons.catchup import CatchUp
from actor_scheduler.crons.records import Dispatched
from actor_scheduler.crons.schedule import Cron, Every
from actor_scheduler.errors import InvalidCron, InvalidTime
from actor_scheduler.limits import KEEP_US
from actor_scheduler.model import ACTIONS, CRONS, Failed, Outcome, Succeeded
from actor_scheduler.store.base import CompleteJob, Fired, Prune, Pruned, Refill, RunDue
from actor_scheduler.store.cron_units import DispatchCron, PauseCron, PutCron, ResumeCron, RunCron
from actor_scheduler.testing.bench import NOTHING, claims, opened, refused, writes
from actor_scheduler.testing.clock import START_US
from actor_scheduler.testing.cron_bench import EVERY_FIVE, HOUR, MINUTE, CronBench, after, cron
from actor_scheduler.times import to_datetime

if TYPE_CHECKING:
    from actor_scheduler.crons.catchup import SkipReason
    from actor_scheduler.testing.bench import Case, MakeStore


# ------------------------------------------------------------------ firing


async def a_cron_waits_for_its_next_tick(make_store: MakeStore) -> None:
    """Strictly after it was registered; an interval's first tick is then. Over restarts, in the window's order."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron()), PutCron(cron("i", Every(minutes=7))))
        assert (await crons.waits_for(), await crons.waits_for("i")) == (5 * MINUTE, 0)
        assert [entry.fire_at_us - START_US for entry in sorted(crons.index)] == [0, 5 * MINUTE]
        await crons.restart()
        await crons.fire(0)
        await crons.run()
        assert await crons.waits_for("i") == 7 * MINUTE
        info = await crons.info()
        assert (info.path, info.origin, info.paused, info.trouble) == ("m", "runtime", False, None)
        assert info.accounted_to == info.anchored_at == to_datetime(START_US)
        assert (info.schedule, info.spec) == (EVERY_FIVE, cron())
        assert (await crons.history(), await crons.history("i")) == ([], [("success", 0)])


async def a_tick_is_one_run(make_store: MakeStore) -> None:
    """The run and the watermark are one commit: however often the entry is handed in, over restarts too."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        bench.host.bodies["m"] = writes("ran")
        await crons.do(PutCron(cron()))
        (due,) = [RunDue(CRONS, entry) for entry in crons.index]
        bench.clock.move_to(START_US + 5 * MINUTE + 7)
        first, again = await crons.do(due, due)
        assert (first, again) == (Fired("c", 1, ()), None)
        assert await crons.waits_for() == 10 * MINUTE
        await crons.restart()
        assert await crons.do(due) == [None]
        await crons.run()
        (run,) = await crons.runs()
        assert run.job_id is not None
        job = await bench.job(run.job_id)
        assert (after(job.scheduled_at), job.cron, job.attempt) == (5 * MINUTE, "c", 1)
        assert job.occurrence_id == "c@2026-01-01T00:05:00Z"
        assert (run.state, after(run.tick), run.skipped, run.manual) == ("success", 5 * MINUTE, 0, False)
        assert (run.lag, run.attempts) == (timedelta(microseconds=7), 1)
        assert await bench.items() == {"ran": 1}


async def a_cron_of_an_action_is_claimed_as_any_other(make_store: MakeStore) -> None:
    """Its run waits in the queue of actions, and a failed one does not stop the schedule."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron(path="a", kind="action")))
        outcomes: list[Outcome] = [Failed("error", "no"), Succeeded()]
        for at, outcome in enumerate(outcomes, 1):
            await crons.fire(at * 5 * MINUTE)
            (job,) = claims(await bench.run(*await bench.due(ACTIONS)))
            assert (job.path, job.cron, job.tick_us) == ("a", "c", START_US + at * 5 * MINUTE)
            await bench.run(CompleteJob(job, outcome, bench.clock.now_us()))
        assert await crons.history() == [("failed", 5), ("success", 10)]


async def a_missed_tick_is_treated_by_its_policy(make_store: MakeStore) -> None:
    """`latest` runs the newest, `all` each one within its caps, `skip` none; each dropped one has its reason."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        rules = {
            "latest": CatchUp("latest"),
            "all": CatchUp("all", overlap="queue"),
            "cap": CatchUp("all", max_ticks=2, overlap="queue"),
            "age": CatchUp("all", max_age_us=7 * MINUTE, overlap="queue"),
            "skip": CatchUp("skip"),
        }
        await crons.do(*[PutCron(cron(name, rule=rule)) for name, rule in rules.items()])
        await crons.restart()
        await crons.fire(22 * MINUTE)
        await crons.run()
        ran = [("success", 10), ("success", 15), ("success", 20)]
        assert {name: await crons.history(name) for name in rules} == {
            "latest": [("policy", 5, 15, 3), ran[2]],
            "all": [("success", 5), *ran],
            "cap": [("cap", 5, 10, 2), *ran[1:]],
            "age": [("age", 5, 10, 2), *ran[1:]],
            "skip": [("policy", 5, 20, 4)],
        }
        assert [run.skipped for run in await crons.runs("cap") if run.state == "success"] == [0, 2]
        assert {await crons.waits_for(name) for name in rules} == {25 * MINUTE}
        await crons.fire(25 * MINUTE)
        assert [run.skipped for run in await crons.runs("skip")] == [4, 4]


async def a_tick_that_meets_a_run_is_treated_by_the_overlap_rule(make_store: MakeStore) -> None:
    """`skip` records it, `queue` lets it wait in line, at most `max_ticks` of them, `allow` runs it beside."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        rules = {
            "skip": CatchUp(),
            "queue": CatchUp(overlap="queue", max_ticks=2),
            "allow": CatchUp(overlap="allow"),
        }
        specs = [cron(name, path="a", kind="action", rule=rule) for name, rule in rules.items()]
        await crons.do(*map(PutCron, specs))
        for at in range(1, 5):
            await crons.fire(at * 5 * MINUTE)
            await bench.run(*await bench.due(ACTIONS))
        run, wait = "in_progress", "pending"
        assert await crons.history("skip") == [(run, 5), ("overlap", 10, 20, 3)]
        assert await crons.history("queue") == [(run, 5), (wait, 10), ("cap", 15, 20, 2)]
        assert await crons.history("allow") == [(run, 5), (run, 10), (run, 15), (run, 20)]


async def ticks_dropped_one_after_the_other_are_one_record(make_store: MakeStore) -> None:
    """As long as the reason is the same and no tick ran between; it grows, and its count with it."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron(rule=CatchUp("skip"))))
        for at in (12, 17, 22):
            await crons.fire(at * MINUTE)
        await crons.fire(25 * MINUTE)
        await crons.fire(32 * MINUTE)  # while that one waits
        assert await crons.history() == [("policy", 5, 20, 4), ("pending", 25), ("overlap", 30, 30, 1)]
        assert (await crons.runs())[1].skipped == 4
        await crons.run()
        await crons.fire(37 * MINUTE)
        await crons.fire(40 * MINUTE)
        assert (await crons.history())[2:] == [("overlap", 30, 30, 1), ("policy", 35, 35, 1), ("pending", 40)]
        await crons.fire(45 * MINUTE)
        await crons.run()
        await crons.fire(50 * MINUTE)
        await crons.fire(55 * MINUTE)
        assert (await crons.history())[4:] == [
            ("success", 40), ("overlap", 45, 45, 1), ("pending", 50), ("overlap", 55, 55, 1),
        ]  # fmt: skip


async def a_clock_that_was_set_back_fires_nothing_twice(make_store: MakeStore) -> None:
    """What was due when it was chosen and is not any more stays in the index, and fires when its time has come."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron()))
        (entry,) = crons.index
        bench.clock.step(-HOUR)
        assert await crons.do(RunDue(CRONS, entry)) == [Fired("c", 0, ())]
        assert crons.index == {entry}
        await crons.fire(5 * MINUTE)
        await crons.run()
        bench.clock.step(-HOUR)
        assert await crons.do(*[RunDue(CRONS, waits) for waits in crons.index]) == [Fired("c", 0, ())]
        assert await crons.waits_for() == 10 * MINUTE
        assert await crons.history() == [("success", 5)]


async def more_crons_than_a_window_holds_are_read_in_order(make_store: MakeStore) -> None:
    """A refill gives the next to fire after a moment, and says whether that is all."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(*[PutCron(cron(f"c{at:02}", Cron(f"{at * 7 % 60} * * * *"))) for at in range(1, 25)])
        everything = sorted(crons.index)
        for at, horizon in enumerate([NOTHING, *everything]):
            asked = [Refill(CRONS, horizon, count) for count in (1, 5, 24, 25)]
            await bench.run(refills=asked)
            expected = [everything[at : at + refill.limit] for refill in asked]
            assert bench.last.refills == [
                (refill, entries, len(entries) < refill.limit) for refill, entries in zip(asked, expected, strict=True)
            ]
        await crons.fire(HOUR)
        assert {entry.seq for entry in crons.index} == {entry.seq for entry in everything}


async def records_of_ticks_are_kept_as_long_as_jobs(make_store: MakeStore) -> None:
    """From when they were written; at most as many are forgotten as asked for, jobs first."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(*[PutCron(cron(name)) for name in "ab"])
        first_us, second_us = START_US + 10 * MINUTE + KEEP_US, START_US + 11 * MINUTE + KEEP_US
        await crons.fire(10 * MINUTE)
        bench.clock.move_to(START_US + 11 * MINUTE)
        await crons.run()
        assert await bench.value(Prune(first_us - 1, 100)) == Pruned(0, first_us)
        assert await bench.value(Prune(first_us, 1)) == Pruned(1, first_us)
        assert await bench.value(Prune(first_us, 100)) == Pruned(1, second_us)
        assert [run.state for run in await crons.runs(None)] == ["success", "success"]
        assert await bench.value(Prune(second_us, 1)) == Pruned(1, second_us)
        assert await bench.value(Prune(second_us, 100)) == Pruned(1, None)
        assert await crons.waits_for("a") == 15 * MINUTE


# ------------------------------------------------------------------ paused, by hand, from outside


async def a_paused_cron_catches_up_by_its_policy(make_store: MakeStore) -> None:
    """Nothing runs and nothing is recorded until it is resumed; what is dropped then has the reason `paused`."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(
            *[PutCron(cron(name, rule=CatchUp(name, overlap="queue"))) for name in ("latest", "all", "skip")]
        )
        await crons.do(*[PauseCron(name, "for the move") for name in ("latest", "all", "skip")])
        assert crons.index == set()
        await crons.restart()
        assert await crons.fire(12 * MINUTE) == []
        await crons.do(PauseCron("all", "still"))
        assert [(await crons.info(name)).note for name in ("latest", "all")] == ["for the move", "still"]
        assert ((await crons.info("all")).paused, await crons.waits_for("all")) == (True, None)
        for _ in range(2):
            await crons.do(*[ResumeCron(name) for name in ("latest", "all", "skip")])
        await crons.run()
        assert await crons.history("latest") == [("paused", 5, 5, 1), ("success", 10)]
        assert await crons.history("all") == [("success", 5), ("success", 10)]
        assert await crons.history("skip") == [("paused", 5, 10, 2)]
        assert ((await crons.info("all")).note, await crons.waits_for("all")) == ("", 15 * MINUTE)


async def a_run_by_hand_does_not_move_the_schedule(make_store: MakeStore) -> None:
    """It takes its turn among the cron's runs, is told the moment that was asked for, and is no tick."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron()), PutCron(cron("paused")), PauseCron("paused", ""))
        before = (await crons.info(), set(crons.index))
        first, second, third = await crons.do(RunCron("c", None), RunCron("c", START_US - HOUR), RunCron("paused", 1))
        assert (await crons.info(), crons.index) == (before[0], before[1])
        await crons.run()
        jobs = [await bench.job(job_id) for job_id in (first, second, third)]
        assert [(job.state, after(job.scheduled_at)) for job in jobs[:2]] == [("success", 0), ("success", -HOUR)]
        assert [(run.job_id, run.manual) for run in await crons.runs()] == [(second, True), (first, True)]
        await crons.do(RunCron("c", None))
        await crons.fire(5 * MINUTE)
        assert (await crons.runs())[0].reason == "overlap"


async def an_outside_clock_dispatches_each_tick_once(make_store: MakeStore) -> None:
    """What it sends is snapped to the latest tick; sent again, late, or out of order, it does not run twice."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron(clock="external")), PutCron(cron("internal")))
        assert (len(crons.index), await crons.waits_for()) == (1, None)
        bench.clock.move_to(START_US + 11 * MINUTE)

        async def dispatched(minutes: float | None) -> tuple[str, float | None, str | None]:
            at_us = None if minutes is None else START_US + round(minutes * MINUTE)
            answer: Dispatched = (await crons.do(DispatchCron("c", at_us)))[0]
            if answer.job_id is not None:
                assert (await bench.job(answer.job_id)).cron == "c"
            return answer.status, None if answer.tick is None else after(answer.tick) / MINUTE, answer.reason

        assert await dispatched(7.3) == ("accepted", 5, None)
        assert await dispatched(5) == ("duplicate", 5, None)
        assert await dispatched(None) == ("skipped", 10, "overlap")
        await crons.run()
        assert await dispatched(10) == ("skipped", 10, "overlap")
        bench.clock.move_to(START_US + 20 * MINUTE)
        assert await dispatched(20.9) == ("accepted", 20, None)
        assert await dispatched(15) == ("skipped", 15, "policy")
        assert await dispatched(-60) == ("skipped", -60, "before_definition")
        await refused(crons.do(DispatchCron("c", START_US + 22 * MINUTE)), InvalidTime)
        await refused(crons.do(DispatchCron("c", 1 << 62)), InvalidTime)
        await refused(crons.do(DispatchCron("internal", None)), InvalidCron)
        await crons.restart()
        assert await dispatched(20) == ("duplicate", 20, None)
        await crons.run()
        assert await crons.history() == [("success", 5), ("overlap", 10, 10, 1), ("policy", 15, 15, 1), ("success", 20)]


async def an_outside_clock_does_not_run_what_is_paused_or_disabled(make_store: MakeStore) -> None:
    """What it sends is recorded with that reason; afterwards it goes on with the next tick."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(
            PutCron(cron("p", clock="external")), PauseCron("p", ""),
            PutCron(cron("d", clock="external", enabled=False)),
        )  # fmt: skip
        bench.clock.move_to(START_US + 12 * MINUTE)
        tick = to_datetime(START_US + 10 * MINUTE)
        reasons: dict[str, SkipReason] = {"p": "paused", "d": "disabled"}
        for name, reason in reasons.items():
            for _ in range(2):
                assert await crons.do(DispatchCron(name, None)) == [Dispatched("skipped", tick, None, reason)]
            assert await crons.history(name) == [(reason, 5, 10, 2)]
        await crons.do(ResumeCron("p"), PutCron(cron("d", clock="external")))
        bench.clock.move_to(START_US + 15 * MINUTE)
        answers: list[Dispatched] = await crons.do(DispatchCron("p", None), DispatchCron("d", None))
        assert [answer.status for answer in answers] == ["accepted", "accepted"]


CASES: Final[tuple[Case, ...]] = (
    a_cron_waits_for_its_next_tick, a_tick_is_one_run, a_cron_of_an_action_is_claimed_as_any_other,
    a_missed_tick_is_treated_by_its_policy, a_tick_that_meets_a_run_is_treated_by_the_overlap_rule,
    ticks_dropped_one_after_the_other_are_one_record, a_clock_that_was_set_back_fires_nothing_twice,
    more_crons_than_a_window_holds_are_read_in_order, records_of_ticks_are_kept_as_long_as_jobs,
    a_paused_cron_catches_up_by_its_policy, a_run_by_hand_does_not_move_the_schedule,
    an_outside_clock_dispatches_each_tick_once, an_outside_clock_does_not_run_what_is_paused_or_disabled,
)  # fmt: skip
