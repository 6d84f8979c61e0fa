"""Retries: how often a job is tried, when, and what is kept of it, for actions and mutations alike."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from actor_scheduler.limits import ATTEMPTS_KEPT
from runtime import ActionCtx, App, FunctionError, GiveUp, MutationCtx, Namespace, QueryCtx, Retry, RetryLater
from runtime.invoker import JobInvoker
from runtime.testing import START, Harness

if TYPE_CHECKING:
    from actor_scheduler.model import Job
    from tests.runtime.conftest import Start

KINDS = ["action", "mutation"]


def seconds(span: float) -> timedelta:
    """Return a span."""
    return timedelta(seconds=span)


class Flaky:
    """A function of each kind that does as its script says, one word for each attempt; the last word stays."""

    def __init__(self, **options: Any) -> None:
        self.ns: Namespace[Any] = Namespace("flaky")
        self.seen: list[tuple[datetime, JobInvoker]] = []
        self.script: list[str] = ["fail"]

        async def act(ctx: ActionCtx) -> str:
            return await self.body(ctx)

        async def write(ctx: MutationCtx) -> str:
            await ctx.db.execute("INSERT INTO log (what) VALUES (?)", [f"by {ctx.invoker.attempt}"])  # type: ignore[union-attr]
            await ctx.scheduler.run_after(1000, "flaky:child")
            return await self.body(ctx)

        async def child(ctx: MutationCtx) -> None:
            pass

        async def written(ctx: QueryCtx) -> list[str]:
            return [row[0] for row in await ctx.db.fetch_all("SELECT what FROM log")]

        self.ns.action(name="action", **options)(act)
        self.ns.mutation(name="mutation", **options)(write)
        self.ns.mutation(name="child")(child)
        self.ns.query(name="written")(written)

    async def body(self, ctx: Any) -> str:
        """Do as the script says."""
        invoker = ctx.invoker
        assert isinstance(invoker, JobInvoker)
        self.seen.append((ctx.now, invoker))
        word = self.script[min(len(self.seen), len(self.script)) - 1]
        match word.partition(" "):
            case ("ok", _, _):
                return f"ok at {invoker.attempt}"
            case ("later", _, delay):
                raise RetryLater(float(delay), "busy")
            case ("give", _, _):
                raise GiveUp("no use")
            case ("os", _, _):
                raise ConnectionError("gone")
            case ("code", _, _):
                raise FunctionError("NOT_FOUND", "no post", {"id": 7})
            case _:
                raise LookupError(f"at {invoker.attempt}")

    @property
    def times(self) -> list[float]:
        """When the attempts ran, in seconds after the start."""
        return [(at - START).total_seconds() for at, _ in self.seen]


async def get(h: Harness[Any], job_id: str) -> Job:
    """Return a job that exists."""
    job = await h.scheduler.get(job_id)
    assert job is not None
    return job


# ------------------------------------------------------------------ how often, and when


@pytest.mark.parametrize("kind", KINDS)
async def test_without_a_policy_a_failure_is_final(start: Start, kind: str) -> None:
    """One attempt, and that is it."""
    flaky = Flaky()
    h = await start(flaky.ns)
    await h.scheduler.run_now(f"flaky:{kind}")
    (job,) = await h.advance(days=1)
    assert (job.state, job.cause, job.attempt, flaky.times) == ("failed", "error", 1, [0])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_job_is_tried_again_until_it_succeeds(start: Start, kind: str) -> None:
    """Pending with its error between attempts, at the same id; only the last attempt's writes and children exist."""
    flaky = Flaky(retry=Retry(5, jitter=0, base=10))
    flaky.script = ["fail", "code", "ok"]
    h = await start(flaky.ns)
    job_id = await h.scheduler.run_after(7, f"flaky:{kind}")
    await h.advance(7)
    waiting = await get(h, job_id)
    assert (waiting.state, waiting.attempt, waiting.cause, waiting.error) == (
        "pending", 1, "error", "LookupError: at 1",
    )  # fmt: skip
    assert (waiting.fire_at, waiting.completed_at) == (START + seconds(17), None)
    await h.advance(10)
    assert ((await get(h, job_id)).error_code, (await get(h, job_id)).error_data) == ("NOT_FOUND", {"id": 7})
    await h.advance(60)
    job = await get(h, job_id)
    assert (job.state, job.attempt, job.result, flaky.times) == ("success", 3, "ok at 3", [7, 17, 37])
    assert (job.cause, job.error, job.error_code, job.error_data, job.traceback) == (None,) * 5
    assert (job.scheduled_at, job.started_at, job.completed_at) == (START + seconds(7), *[START + seconds(37)] * 2)
    children = [other async for other in h.scheduler.list(fn="flaky:child")]
    assert await h.call("flaky:written") == (["by 3"] if kind == "mutation" else [])
    assert [child.created_at for child in children] == ([START + seconds(37)] if kind == "mutation" else [])


@pytest.mark.parametrize("kind", KINDS)
async def test_an_exhausted_job_is_a_dead_letter(start: Start, kind: str) -> None:
    """After max_attempts it is failed with the last error, and each attempt before is on record."""
    flaky = Flaky(retry=Retry(3, jitter=0, base=1))
    flaky.script = ["fail", "os", "code"]
    h = await start(flaky.ns)
    job_id = await h.scheduler.run_now(f"flaky:{kind}")
    (job,) = await h.advance(days=1)
    assert (job.state, job.cause, job.attempt, job.error_code) == ("failed", "error", 3, "NOT_FOUND")
    record = await h.scheduler.failed_attempts(job_id)
    assert [(at.attempt, at.cause, at.error) for at in record] == [
        (1, "error", "LookupError: at 1"),
        (2, "error", "ConnectionError: gone"),
    ]
    assert [(at.started_at, at.ended_at) for at in record] == [(START + seconds(at),) * 2 for at in (0, 1)]
    assert [each.id async for each in h.scheduler.list(state="failed")] == [job_id]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_an_attempt_is_told_of_itself(start: Start, kind: str) -> None:
    """V11, V14: `scheduled_at` and `occurrence_id` stay, `attempt` counts, `dispatched_at` is this attempt's start."""
    flaky = Flaky(retry=Retry(3, jitter=0, base=1))
    h = await start(flaky.ns)
    job_id = await h.scheduler.run_at(START - timedelta(days=2), f"flaky:{kind}")
    await h.advance(60)
    told = [invoker for _, invoker in flaky.seen]
    assert [each.attempt for each in told] == [1, 2, 3]
    assert {each.occurrence_id for each in told} == {job_id}
    assert {each.job_id for each in told} == {job_id}
    assert {each.scheduled_at for each in told} == {START - timedelta(days=2)}
    assert [each.dispatched_at for each in told] == [at for at, _ in flaky.seen]
    assert (await get(h, job_id)).scheduled_at == START - timedelta(days=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("own", "attempts"), [(1, 1), (2, 2), (Retry(4, jitter=0), 4)])
async def test_a_jobs_own_policy_holds_instead_of_its_functions(
    start: Start, kind: str, own: Any, attempts: int
) -> None:
    """Given with run_after, .now(…).call or a bound call; kept over a restart in its row."""
    flaky = Flaky(retry=Retry(3, jitter=0))
    h = await start(flaky.ns)
    fn: Any = flaky.ns.functions[f"flaky:{kind}"]
    ids = [
        await h.scheduler.run_after(1, f"flaky:{kind}", retry=own),
        await h.scheduler.after(1, retry=own).call(fn),
        *await h.scheduler.run_many([fn.bind().after(1, retry=own)]),
        await h.scheduler.run_after(1, f"flaky:{kind}"),
    ]
    await h.restart()
    await h.advance(days=1)
    assert [(await get(h, job_id)).attempt for job_id in ids] == [attempts] * 3 + [3]


@pytest.mark.parametrize("wrong", [0, -1, True, 2.5, "3", [3], {"max_attempts": 3}])
async def test_a_policy_that_is_none_is_refused(start: Start, wrong: Any) -> None:
    """At once, and nothing is stored."""
    flaky = Flaky()
    h = await start(flaky.ns)
    with pytest.raises(ValueError, match="retry|max_attempts"):
        await h.scheduler.run_now("flaky:action", retry=wrong)
    assert await h.scheduler.list().count() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("policy", "script", "state", "attempts"),
    [
        (Retry(5, jitter=0, retry_on=OSError), ["os", "fail", "ok"], "failed", 2),
        (Retry(5, jitter=0, give_up_on=LookupError), ["os", "os", "fail", "ok"], "failed", 3),
        (Retry(5, jitter=0, give_up_on=OSError), ["fail", "ok"], "success", 2),
        (Retry(5, jitter=0), ["fail", "give", "ok"], "failed", 2),
        (Retry(5, jitter=0, retry_on=GiveUp), ["give", "ok"], "failed", 1),
        (Retry(5, jitter=0, retry_on=OSError), ["later 5", "ok"], "success", 2),
        (Retry(5, jitter=0, give_up_on=Exception), ["later 5", "later 0", "ok"], "success", 3),
        (Retry(2, jitter=0), ["later 5", "later 5", "ok"], "failed", 2),
        (Retry(9, jitter=0, max_delay=0), ["fail", "fail", "fail", "ok"], "success", 4),
        (None, ["later 5", "later 5", "ok"], "success", 3),
        (None, ["later 5", "fail", "ok"], "failed", 2),
        (None, ["give"], "failed", 1),
    ],
)
async def test_what_a_function_may_say(
    start: Start, kind: str, policy: Any, script: list[str], state: str, attempts: int
) -> None:
    """GiveUp ends it, RetryLater goes on with or without a policy, other errors as retry_on and give_up_on say."""
    flaky = Flaky(retry=policy)
    flaky.script = script
    h = await start(flaky.ns)
    job_id = await h.scheduler.run_now(f"flaky:{kind}")
    await h.advance(days=1)
    job = await get(h, job_id)
    assert (job.state, job.attempt, len(flaky.seen)) == (state, attempts, attempts)
    assert len(await h.scheduler.failed_attempts(job_id)) == attempts - 1


async def test_retry_later_is_to_the_moment(start: Start) -> None:
    """No jitter, no backoff, no cap of the policy: the function knows when."""
    flaky = Flaky(retry=Retry(9, max_delay=1, jitter=1))
    flaky.script = ["later 90", "later 0.5", "ok"]
    h = await start(flaky.ns)
    job_id = await h.scheduler.run_now("flaky:action")
    await h.settle()
    assert (await get(h, job_id)).error == "RetryLater: busy"
    await h.advance(days=1)
    assert flaky.times == [0, 90, 90.5]


async def test_a_policy_without_pauses_is_no_hot_loop(start: Start) -> None:
    """max_delay=0 still waits a hundredth of a second, and others run in between."""
    flaky = Flaky(retry=Retry(50, max_delay=0, jitter=1))
    h = await start(flaky.ns)
    await h.scheduler.run_now("flaky:action")
    await h.settle()
    assert flaky.times == [0]
    await h.advance(1)
    assert flaky.times == pytest.approx([at / 100 for at in range(50)])


@pytest.mark.parametrize("kind", KINDS)
async def test_raised_in_a_live_call_they_are_plain_errors(start: Start, kind: str) -> None:
    """Nobody schedules anything for a caller who waits: RetryLater and GiveUp come out, and nothing is kept."""
    ns: Namespace[Any] = Namespace("live")
    errors = [RetryLater(5, "busy"), GiveUp("no use")]

    @ns.mutation(retry=3)
    async def mutation(ctx: MutationCtx, *, at: int) -> None:
        await ctx.db.execute("INSERT INTO log (what) VALUES ('half')")
        raise errors[at]

    @ns.action(retry=3)
    async def action(ctx: ActionCtx, *, at: int) -> None:
        await ctx.run_mutation(mutation, at=at)

    flaky = Flaky()
    h = await start(ns, flaky.ns)
    for at, error in enumerate(errors):
        with pytest.raises(type(error)) as raised:
            await h.call(f"live:{kind}", {"at": at})
        assert str(raised.value) == str(error)
    await h.advance(60)
    assert (await h.scheduler.list().count(), await h.call("flaky:written")) == (0, [])


async def test_what_an_action_runs_may_say_it_too(start: Start) -> None:
    """RetryLater and GiveUp of a mutation pass through the action that runs it, as any error does."""
    ns: Namespace[Any] = Namespace("nest")
    words: list[Exception] = [RetryLater(5), RetryLater(7), GiveUp("no")]

    @ns.mutation
    async def inner(ctx: MutationCtx) -> None:
        raise words.pop(0)

    @ns.action(retry=9)
    async def outer(ctx: ActionCtx) -> None:
        await ctx.run_mutation(inner)

    h = await start(ns)
    await h.scheduler.run_now("nest:outer")
    (job,) = await h.advance(60)
    assert (job.state, job.attempt, job.completed_at) == ("failed", 3, START + seconds(12))


async def test_the_record_keeps_the_newest_attempts(start: Start) -> None:
    """A job that is tried for ever does not grow for ever."""
    flaky = Flaky(retry=Retry(ATTEMPTS_KEPT + 20, max_delay=0))
    h = await start(flaky.ns)
    job_id = await h.scheduler.run_now("flaky:mutation")
    (job,) = await h.advance(60)
    record = await h.scheduler.failed_attempts(job_id)
    assert [at.attempt for at in record] == list(range(20, ATTEMPTS_KEPT + 20))
    assert job.attempt == ATTEMPTS_KEPT + 20
    assert await h.scheduler.retry(job_id)
    assert [at.attempt for at in await h.scheduler.failed_attempts(job_id)] == [at + 21 for at in range(ATTEMPTS_KEPT)]


# ------------------------------------------------------------------ in company, and over restarts


@pytest.mark.parametrize("kind", KINDS)
async def test_a_job_that_is_retried_holds_its_lane_and_its_key(start: Start, kind: str) -> None:
    """Those behind it in the lane wait until it ended for good; a second job under its key is still the same job."""
    flaky = Flaky(retry=Retry(3, jitter=0, base=10))
    flaky.script = ["fail", "fail", "fail", "ok"]
    h = await start(flaky.ns)
    first = await h.scheduler.run_now(f"flaky:{kind}", lane="l", key="k")
    second = await h.scheduler.run_now(f"flaky:{kind}", lane="l")
    await h.advance(25)
    assert {invoker.job_id for _, invoker in flaky.seen} == {first}
    assert await h.scheduler.run_now(f"flaky:{kind}", key="k") == first
    await h.advance(10)
    assert [(await get(h, at)).state for at in (first, second)] == ["failed", "success"]
    assert flaky.times == [0, 10, 30, 30]


async def test_a_retry_by_hand_takes_its_place_in_its_lane(start: Start) -> None:
    """A failed job of a lane that is retried waits for the one that runs, and goes before those that have not begun."""
    order: list[str] = []
    ns: Namespace[Any] = Namespace("lane")

    @ns.action
    async def act(ctx: ActionCtx, *, name: str) -> None:
        order.append(name)
        if order.count(name) == 1 and name == "a":
            raise LookupError
        await ctx.sleep(10)

    h = await start(ns)
    ids = [await h.scheduler.run_now("lane:act", {"name": name}, lane="l") for name in "abc"]
    await h.advance(1)
    assert [(await get(h, at)).state for at in ids] == ["failed", "in_progress", "pending"]
    assert await h.scheduler.retry(ids[0])
    await h.advance(8)
    assert order == ["a", "b"]
    await h.advance(60)
    assert order == ["a", "b", "a", "c"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kill", [True, False])
async def test_K14_a_job_that_waits_for_its_next_attempt_survives(start: Start, kind: str, kill: bool) -> None:
    """The attempt counts once, the pause is kept, and time that passed while nobody ran counts."""
    flaky = Flaky(retry=Retry(4, jitter=0, base=60, factor=1))
    h = await start(flaky.ns)
    await h.scheduler.run_now(f"flaky:{kind}")
    await h.advance(10)
    await h.restart(kill=kill)
    await h.advance(49.9)
    assert flaky.times == [0]
    await h.advance(0.1)
    await h.restart(kill=kill, down_for=90)
    await h.advance(days=1)
    assert flaky.times == [0, 60, 150, 210]
    assert [invoker.attempt for _, invoker in flaky.seen] == [1, 2, 3, 4]


async def test_others_run_while_a_job_waits_for_its_next_attempt(start: Start) -> None:
    """The pause takes no slot."""
    flaky = Flaky(retry=Retry(2, jitter=0, base=60))
    flaky.script = ["fail", "ok"]
    h = await start(App("unused.db", namespaces=[flaky.ns], max_running_actions=1))
    await h.scheduler.run_now("flaky:action")
    other = await h.scheduler.run_now("flaky:action")
    await h.advance(1)
    assert (await get(h, other)).state == "success"


async def test_a_retry_that_is_due_while_the_app_is_paused_waits(start: Start) -> None:
    """Pausing holds next attempts as it holds first ones."""
    flaky = Flaky(retry=Retry(2, jitter=0, base=5))
    h = await start(flaky.ns)
    await h.scheduler.run_now("flaky:mutation")
    await h.settle()
    await h.scheduler.pause("deploying")
    await h.advance(60)
    assert flaky.times == [0]
    await h.scheduler.resume()
    await asyncio.sleep(0)
    await h.settle()
    assert flaky.times == [0, 60]
