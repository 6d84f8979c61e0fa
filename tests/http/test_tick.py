"""The beat over HTTP: for a host that sleeps one request is enough to start the app, run what is due, and plan on."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.http.plain import moment
from tests.http.conftest import DISPATCH, Site, make_app, make_http

WITH_KEY = {"Authorization": f"Bearer {DISPATCH}"}


async def test_it_runs_what_is_due_and_says_when_to_come_again(site: Site, clock_outside: httpx.AsyncClient) -> None:
    """One beat serves any number of schedules: its answer says when something is due next."""
    h = site.harness
    await h.scheduler.run_after(10, "notes:add", {"text": "a"})
    await h.scheduler.run_after(10, "notes:fail")
    later = h.now + timedelta(seconds=20)
    await h.scheduler.run_at(later, "notes:add", {"text": "b"})
    h.clock.step(10_000_000)
    answer = await clock_outside.post("/tick")
    assert answer.status_code == 200
    assert answer.json() == {
        "started": 2,
        "succeeded": 1,
        "failed": 1,
        "canceled": 0,
        "retrying": 0,
        "due_left": 0,
        "running": 0,
        "next_at": moment(later),
        "took_seconds": 0.0,
        "booted": False,
    }


async def test_a_clock_that_can_only_get_is_served_too(site: Site, clock_outside: httpx.AsyncClient) -> None:
    """With the same secret, and an answer that nothing on the way may keep."""
    await site.harness.scheduler.run_after(10, "notes:add", {"text": "a"})
    site.harness.clock.step(10_000_000)
    answer = await clock_outside.get("/tick?wait=5")
    assert (answer.status_code, answer.json()["started"]) == (200, 1)
    assert answer.headers["cache-control"] == "no-store"


async def test_its_time_is_the_callers_to_say(site: Site, clock_outside: httpx.AsyncClient) -> None:
    """wait=0 is a look."""
    job_id = await site.harness.scheduler.run_now("notes:add", {"text": "a"})
    answer = await clock_outside.post("/tick?wait=0")
    assert (answer.status_code, answer.json()["took_seconds"]) == (200, 0.0)
    await site.harness.settle()
    job = await site.harness.scheduler.get(job_id)
    assert job is not None and job.state == "success"


@pytest.mark.parametrize(
    "query", ["wait=-1", "wait=901", "wait=nan", "wait=inf", "wait=soon", "waits=5", "wait=1&wait=2"]
)
async def test_what_it_can_not_wait_for_is_refused(clock_outside: httpx.AsyncClient, query: str) -> None:
    """With a message, before anything is run."""
    answer = await clock_outside.post(f"/tick?{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_QUERY")


async def test_two_beats_at_the_same_time_both_answer(site: Site, clock_outside: httpx.AsyncClient) -> None:
    """And nothing runs twice."""
    h = site.harness
    ids = [await h.scheduler.run_after(10, "notes:send") for _ in range(10)]
    h.clock.step(10_000_000)
    answers = await asyncio.gather(*(clock_outside.post("/tick") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert {answer.json()["due_left"] for answer in answers} == {0}
    jobs = [await h.scheduler.get(job_id) for job_id in ids]
    assert [(job.state, job.attempt) for job in jobs if job] == [("success", 1)] * 10


async def test_the_first_beat_starts_the_app_and_it_stays_up(tmp_path: Path) -> None:
    """Of many at once one starts it; what fell due while the host slept is run before any of them answers."""
    path = str(tmp_path / "app.db")
    before: Any = make_app(path)
    async with before:
        await before.scheduler.run_after(0.05, "notes:add", {"text": "slept"})
        job_id = await before.scheduler.run_after(0.05, "notes:send")
    app: Any = make_app(path)
    transport = httpx.ASGITransport(app=app.asgi(http=make_http()))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=WITH_KEY) as client:
            answers = await asyncio.gather(*(client.post("/tick") for _ in range(8)))
            assert [answer.status_code for answer in answers] == [200] * 8
            assert [answer.json()["booted"] for answer in answers].count(True) == 1
            job = await app.scheduler.wait(job_id, timeout=10)
            assert (job.state, job.attempt) == ("success", 1)
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.post("/tick")).json()["booted"] is False
    finally:
        await app._stop()


async def test_an_app_that_was_stopped_is_not_started_again(tmp_path: Path) -> None:
    """Its server ends: a beat that comes then must not take the file back from the next process."""
    app: Any = make_app(str(tmp_path / "app.db"))
    transport = httpx.ASGITransport(app=app.asgi(http=make_http()))
    async with app:
        pass
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=WITH_KEY) as client:
        answer = await client.post("/tick")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"]
    assert app._engine is None
