"""The auth resolver of scheduled mutations: others wait behind it, so its time is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actor_scheduler import limits
from runtime import ActionCtx, App, AuthRequest, InvalidArgs, MutationCtx, Namespace

ns = Namespace("auth")


@ns.mutation
async def stuck(ctx: MutationCtx) -> None:
    """Be resolved never."""


@ns.mutation
async def fine(ctx: MutationCtx) -> str:
    return str(ctx.auth)


@ns.action
async def act(ctx: ActionCtx) -> str:
    return str(ctx.auth)


async def test_a_resolver_that_never_answers_fails_its_own_job_and_lets_the_others_go(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hanging request to an identity provider must not stop the scheduler."""
    monkeypatch.setattr("runtime.engine.RESOLVER_US_MAX", 50_000)
    asked = asyncio.Event()
    jobs: dict[str, str] = {}

    async def who(request: AuthRequest) -> str:
        if getattr(request.invoker, "job_id", None) == jobs.get("stuck"):
            asked.set()
            await asyncio.Event().wait()
        return "somebody"

    app = App(tmp_path / "app.db", auth=who, namespaces=[ns])
    async with app:
        jobs["stuck"] = await app.scheduler.run_after(0.05, "auth:stuck")
        await asyncio.wait_for(asked.wait(), 10)
        others = [await app.scheduler.run_now(path) for path in ("auth:fine", "auth:act")]
        ended = [await app.scheduler.wait(job_id, timeout=30) for job_id in (jobs["stuck"], *others)]
    assert [(job.state, job.result) for job in ended[1:]] == [("success", "somebody")] * 2
    assert (ended[0].state, ended[0].cause) == ("failed", "timeout")
    assert "the auth resolver did not answer" in str(ended[0].error)
    assert limits.RESOLVER_US_MAX == 10_000_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"synchronous": "FUL"}, "synchronous must be"),
        ({"synchronous": "off"}, "synchronous must be"),
        ({"max_running_actions": True}, "at least 1"),
        ({"max_running_actions": 2.5}, "at least 1"),
        ({"auth": 3}, "auth is an async function"),
        ({"quota": 3}, "quota is a Quota"),
    ],
)
def test_a_setting_that_means_nothing_is_refused(tmp_path: Any, options: dict[str, Any], said: str) -> None:
    """A slip of the pen in a durability setting must not start an app without durability."""
    with pytest.raises(InvalidArgs, match=said):
        App(tmp_path / "app.db", **options)
