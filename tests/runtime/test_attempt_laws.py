"""The laws of attempts, on random lives: whatever is done to jobs meanwhile, and whenever the process dies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import ActionCtx, App, GiveUp, MutationCtx, Namespace, Retry, RetryLater
from runtime.testing import Harness, simulate

if TYPE_CHECKING:
    from actor_scheduler.model import Job

LAWS = settings(max_examples=40, deadline=None, derandomize=True, database=None)
KINDS = ["action", "mutation"]


async def get(h: Harness[Any], job_id: str) -> Job:
    """Return a job that exists."""
    job = await h.scheduler.get(job_id)
    assert job is not None
    return job


@dataclass
class Life:
    """What one random job does and what was seen of it."""

    job_id: str
    max_attempts: int
    starts: list[int] = field(default_factory=list)
    live: int = 0
    by_hand: int = 0
    told: bool = False  # that it will not start any more
    wrong: list[str] = field(default_factory=list)

    def check(self, rule: str, holds: bool) -> None:
        """Note a broken rule: raised inside a body it would only be a failure of its job."""
        if not holds:
            self.wrong.append(rule)


words = st.sampled_from(["ok", "fail", "fail", "later", "give", "sleep", "slow"])
jobs = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(1, 4), st.lists(words, min_size=1, max_size=5)),
    min_size=1, max_size=4,
)  # fmt: skip
moves = st.lists(
    st.tuples(
        st.sampled_from(["pass", "pass", "pass", "cancel", "stop", "retry", "sweep", "kill", "deploy", "step", "back"]),
        st.integers(0, 3),
        st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, 30.0]),
    ),
    max_size=14,
)


@LAWS
@given(plan=jobs, steps=moves, seed=st.integers(0, 1000))
def test_the_laws_of_attempts(plan: list[Any], steps: list[Any], seed: int) -> None:
    """S3, S6, S7, S8, S14: whatever is done to jobs meanwhile, and whenever the process dies.

    Attempts start in order, one at a time, never before their time, at most as often as the policy and the hands
    allow, never after an acknowledged cancel; in the end every job is terminal, and stays so.
    """
    lives: dict[str, Life] = {}
    ns: Namespace[Any] = Namespace("life")

    def begin(ctx: Any, script: list[str]) -> tuple[Life, str]:
        invoker = ctx.invoker
        life = lives[invoker.job_id]
        life.check("attempts count up", [invoker.attempt] > life.starts[-1:])
        # Later attempts wait for their own pauses, which a clock that is set back may end before the first one's time.
        life.check("none starts early", ctx.now >= invoker.scheduled_at or invoker.attempt > 1)
        life.check("none starts once canceled", not life.told)
        life.starts.append(invoker.attempt)
        return life, script[min(invoker.attempt, len(script)) - 1]

    def end(word: str) -> None:
        if word == "later":
            raise RetryLater(3)
        if word == "give":
            raise GiveUp
        if word == "fail":
            raise LookupError

    @ns.action(timeout=20)
    async def action(ctx: ActionCtx, *, script: list[str]) -> None:
        life, word = begin(ctx, script)
        life.live += 1
        life.check("one at a time", life.live == 1)
        try:
            await ctx.sleep({"sleep": 3, "slow": 60}.get(word, 0))
            end(word)
        finally:
            life.live -= 1

    @ns.mutation
    async def mutation(ctx: MutationCtx, *, script: list[str]) -> None:
        _, word = begin(ctx, script)
        end(word)

    async def scenario(h: Harness[Any]) -> None:
        for kind, attempts, script in plan:
            policy = Retry(attempts, base=2, jitter=0.5)
            job_id = await h.scheduler.run_after(1, f"life:{kind}", {"script": script}, retry=policy)
            lives[job_id] = Life(job_id, attempts)
        listed = list(lives.values())
        for what, which, amount in steps:
            life = listed[which % len(listed)]
            match what:
                case "pass":
                    await h.advance(amount)
                case "cancel" | "stop":
                    running = (await get(h, life.job_id)).state == "in_progress"
                    told = await h.scheduler.cancel(life.job_id, running=what == "stop")
                    assert told or running or (await get(h, life.job_id)).state in {"success", "failed"}
                    life.told = life.told or told
                case "retry":
                    life.by_hand += await h.scheduler.retry(life.job_id)
                case "sweep":
                    await h.settle()  # so that none fails between the look and the sweep
                    failed = [job async for job in h.scheduler.list(state="failed", cause="error")]
                    assert await h.scheduler.list(cause="error").retry() == len(failed)
                    for job in failed:
                        lives[job.id].by_hand += 1
                        assert job.attempt in [at.attempt for at in await h.scheduler.failed_attempts(job.id)]
                case "kill" | "deploy":
                    await h.restart(kill=what == "kill", down_for=amount)
                case _:
                    h.clock.step(round(amount * 1_000_000) * (-1 if what == "back" else 1))
        await h.advance(days=1)
        ended = {job_id: await get(h, job_id) for job_id in lives}
        for life in listed:
            job, numbers = ended[life.job_id], life.starts
            assert life.wrong == []
            assert job.state in {"success", "failed", "canceled"}
            assert (job.completed_at is not None, life.live) == (True, 0)
            assert numbers == sorted(set(numbers))
            assert max(numbers, default=0) <= job.attempt <= life.max_attempts + life.by_hand
            assert job.state != "failed" or job.cause is not None
            record = [at.attempt for at in await h.scheduler.failed_attempts(life.job_id)]
            assert record == sorted(set(record))
            assert all(at <= job.attempt for at in record)
        await h.restart(down_for=3600)
        await h.advance(days=1)
        assert {job_id: await get(h, job_id) for job_id in lives} == ended

    simulate(App("unused.db", namespaces=[ns]), scenario, seed=seed)
