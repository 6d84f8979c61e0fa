"""The app as a whole over HTTP: figures that add up, pools and pauses, and a trail of who did what."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from actor_scheduler import __version__
from runtime import ActionCtx, App, MutationCtx, Namespace, Retry
from runtime.http.audit import KEPT, Audit
from runtime.testing import START, Harness
from tests.http.asking import Json, audit, got, sent
from tests.http.conftest import OPERATE, READ, Site, make_http


async def test_a_caller_learns_who_it_is(site: Site, operator: httpx.AsyncClient, reader: httpx.AsyncClient) -> None:
    """Its role, and the id of its key, which is not its key."""
    me = await got(operator, "/admin/me")
    assert me == {
        "role": "operate", "key_id": me["key_id"], "via": "bearer", "name": "app.db", "version": __version__,
        "now": "2026-01-01T00:00:00.000000Z",
    }  # fmt: skip
    other = await got(reader, "/admin/me")
    assert (other["role"], other["key_id"] == me["key_id"]) == ("read", False)
    assert me["key_id"] not in OPERATE
    assert other["key_id"] not in READ


STATS = {
    "now", "version", "started_at", "uptime_seconds", "ready", "unready_reason", "paused", "jobs", "oldest_due_at",
    "lag_seconds", "running", "failures", "throughput", "latency", "crons", "database", "listeners",
}  # fmt: skip


async def test_figures_tell_what_happened(site: Site, operator: httpx.AsyncClient) -> None:
    """Each job stands in one of them, and each attempt of this process in its minute."""
    scheduler = site.app.scheduler
    for text in "abc":
        await scheduler.run_now("notes:add", {"text": text})
    await scheduler.run_now("notes:fail")
    await scheduler.run_after(3_600, "notes:add", {"text": "later"})
    await site.harness.settle()
    await site.harness.advance(seconds=30)
    await scheduler.pause("ada: looking")
    await scheduler.run_now("notes:add", {"text": "waits"})
    await site.harness.advance(seconds=15)
    stats = await got(operator, "/admin/stats")
    assert stats.keys() == STATS
    assert (stats["now"], stats["started_at"]) == ("2026-01-01T00:00:45.000000Z", "2026-01-01T00:00:00.000000Z")
    assert (stats["uptime_seconds"], stats["ready"], stats["unready_reason"]) == (45.0, True, None)
    assert (stats["paused"], stats["version"]) == ("ada: looking", __version__)
    assert stats["jobs"] == {"pending": 2, "due": 1, "in_progress": 0, "failed": 1, "ended": 5}  # with the sweep
    assert (stats["oldest_due_at"], stats["lag_seconds"]) == ("2026-01-01T00:00:30.000000Z", 15.0)
    assert [job["path"] for job in stats["failures"]] == ["notes:fail"]
    assert stats["running"] == []
    assert stats["crons"] == {"total": 3, "paused": 0, "troubled": 0}
    assert (stats["database"]["bytes"] > 0, stats["database"]["disk_free_bytes"] > 0) == (True, True)
    assert len(stats["throughput"]) == 60
    assert stats["throughput"][-1] == {
        "minute": "2026-01-01T00:00:00.000000Z", "success": 4, "failed": 1, "canceled": 0, "retried": 0,
    }  # fmt: skip
    assert [minute["minute"] for minute in stats["throughput"]] == sorted(
        minute["minute"] for minute in stats["throughput"]
    )
    assert stats["latency"].keys() == {
        "start_lag_p50_seconds", "start_lag_p99_seconds", "commit_p50_seconds", "commit_p99_seconds", "batch_mean",
        "loop_lag_seconds",
    }  # fmt: skip
    assert 0 < stats["latency"]["commit_p50_seconds"] <= stats["latency"]["commit_p99_seconds"]
    assert stats["listeners"] == 0


async def test_figures_show_no_more_than_fits() -> None:
    """Fifty that run and twenty that failed, the newest; and nothing of their arguments."""
    namespace = Namespace[Any]("busy")

    @namespace.action
    async def wait(ctx: ActionCtx, *, secret: str) -> None:
        await ctx.sleep(60)

    @namespace.mutation(retry=Retry(1))
    async def fail(ctx: MutationCtx, *, secret: str) -> None:
        raise RuntimeError("no")

    app, http = App[Any]("app.db", namespaces=[namespace]), make_http()
    async with Harness(app) as harness, Site(app, harness, http, app.asgi(http=http)).client(READ) as client:
        await app.scheduler.run_many([fail.bind(secret="hushhush") for _ in range(30)])
        ids = await app.scheduler.run_many([wait.bind(secret="hushhush") for _ in range(60)])
        await harness.settle()
        answer = await client.get("/admin/stats")
        stats = answer.json()
        assert (len(stats["running"]), len(stats["failures"])) == (50, 20)
        assert stats["running"][0]["id"] == ids[-1]
        assert stats["jobs"]["in_progress"] == 60
        assert "hushhush" not in answer.text


async def test_what_starts_next_is_listed(site: Site, operator: httpx.AsyncClient) -> None:
    """Jobs and crons in one order of time."""
    job_id = await site.app.scheduler.run_after(3_600, "notes:add", {"text": "x"}, key="k")
    items = (await got(operator, "/admin/upcoming"))["items"]
    assert items == [
        {"kind": "cron", "at": "2026-01-01T00:05:00.000000Z", "path": "notes:prune", "id": None, "cron": "sweep", "key": None},
        {"kind": "job", "at": "2026-01-01T01:00:00.000000Z", "path": "notes:add", "id": job_id, "cron": None, "key": "k"},
        {"kind": "cron", "at": "2026-01-01T07:00:00.000000Z", "path": "notes:send", "id": None, "cron": "digest/paris", "key": None},
    ]  # fmt: skip
    assert (await got(operator, "/admin/upcoming", limit=1))["items"] == items[:1]


async def test_functions_are_listed_with_their_arguments(operator: httpx.AsyncClient) -> None:
    """All of them, whoever may call them."""
    functions = {each["path"]: each for each in (await got(operator, "/admin/functions"))["items"]}
    assert list(functions)[:2] == ["notes:count", "notes:add"]
    assert functions["notes:compact"]["access"] == "system"
    assert functions["notes:send"]["pool"] == "mail"
    add = functions["notes:add"]
    assert (add["kind"], add["access"], add["description"]) == (
        "mutation",
        "public",
        "Write a note down, and return its number.",
    )
    assert add["arguments"]["required"] == ["text"]
    assert add["arguments"]["properties"]["times"]["type"] == "integer"
    assert add["arguments"]["additionalProperties"] is False


async def test_a_function_with_odd_arguments_is_listed_all_the_same() -> None:
    """What has no schema is any value."""
    from collections.abc import Callable

    namespace = Namespace[Any]("odd")

    @namespace.mutation
    async def take(ctx: MutationCtx, *, call: Callable[[], int], data: bytes, more: dict[str, set[int]]) -> None: ...

    app, http = App[Any]("app.db", namespaces=[namespace]), make_http()
    async with Harness(app) as harness, Site(app, harness, http, app.asgi(http=http)).client(READ) as client:
        (shown,) = (await got(client, "/admin/functions"))["items"]
        assert shown["arguments"]["properties"].keys() == {"call", "data", "more"}


async def test_a_pool_is_set(site: Site, operator: httpx.AsyncClient) -> None:
    """To a limit, to none of its actions, and back to what the code declares."""
    declared = {"name": "mail", "limit": 2, "declared": 2, "running": 0}
    assert (await got(operator, "/admin/pools"))["items"] == [declared]
    assert await sent(operator, "/admin/pools", {"name": "mail", "limit": 0}) == {**declared, "limit": 0}
    await site.app.scheduler.run_now("notes:send")
    await site.harness.settle()
    assert (await got(operator, "/admin/stats"))["jobs"]["due"] == 1
    assert await sent(operator, "/admin/pools", {"name": "mail", "limit": None}) == declared
    await site.harness.settle()
    assert (await got(operator, "/admin/stats"))["jobs"]["due"] == 0
    assert (await sent(operator, "/admin/pools", {"name": "nope", "limit": 1}, 404))["error"]["code"] == "NOT_FOUND"
    assert await audit(operator) == [
        ("set pool", "nope", "refused: NOT_FOUND"), ("set pool", "mail", "limit as declared"), ("set pool", "mail", "limit 0"),
    ]  # fmt: skip


async def test_everything_is_paused_and_resumed(site: Site, operator: httpx.AsyncClient) -> None:
    """With a note that says by whom."""
    assert await sent(operator, "/admin/pause", {"note": "ada: deploy"}) == {"paused": "ada: deploy"}
    await site.app.scheduler.run_now("notes:add", {"text": "x"})
    await site.harness.settle()
    assert (await got(operator, "/admin/jobs/count", state="pending"))["count"] == 1
    assert await sent(operator, "/admin/pause") == {"paused": "paused"}
    assert await sent(operator, "/admin/resume") == {"paused": None}
    await site.harness.settle()
    assert (await got(operator, "/admin/jobs/count", state="pending"))["count"] == 0
    assert (await sent(operator, "/admin/pause", {"note": "x" * 1_001}, 400))["error"]["code"] == "INVALID_ARGS"
    assert [deed[0] for deed in await audit(operator)] == ["pause", "resume", "pause", "pause"]


async def test_the_database_is_examined(reader: httpx.AsyncClient) -> None:
    """While it is in use."""
    report = await got(reader, "/admin/doctor")
    assert report.keys() == {"ok", "problems", "facts", "jobs"}
    assert report["ok"] is True
    assert "SQLite" in report["facts"]
    assert all(each.keys() == {"gravity", "text", "advice"} for each in report["problems"])


async def test_what_is_late_is_judged_by_the_app_s_clock(site: Site, operator: httpx.AsyncClient) -> None:
    """And the advice is a command, for whoever is not a programmer."""
    await site.app.scheduler.pause()
    await site.app.scheduler.run_after(60, "notes:add", {"text": "x"})
    await site.app.scheduler.resume()
    told = [each["text"] for each in (await got(operator, "/admin/doctor"))["problems"]]
    assert not any("overdue" in text for text in told), told
    await site.app.scheduler.pause()
    await site.harness.advance(minutes=3)
    told = [each["text"] for each in (await got(operator, "/admin/doctor"))["problems"]]
    assert any("overdue" in text and text.endswith("for 2 min") for text in told), told
    await site.app.scheduler.resume()
    await site.app.scheduler.run_now("notes:refuse", {"code": "NO"})
    await site.harness.settle()
    problems = (await got(operator, "/admin/doctor"))["problems"]
    (advice,) = (each["advice"] for each in problems if "1 jobs failed in the last 24 hours" in each["text"])
    assert advice.startswith("actor-scheduler jobs list --state failed")


async def test_the_trail_tells_who_did_what(
    site: Site, operator: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    """When, from where, with what result; the last thousand, and each in the log, on one line."""
    caplog.set_level("INFO", "actor_scheduler.audit")
    me = await got(operator, "/admin/me")
    hostile = "x\n2026-01-01 forged \x1b[2J line"
    answer = await operator.post("/admin/cron/pause", json={"name": hostile})
    deed = (await got(operator, "/admin/audit"))["items"][0]
    assert deed == {
        "at": "2026-01-01T00:00:00.000000Z", "who": me["key_id"], "via": "bearer", "peer": "127.0.0.1",
        "action": "pause cron", "target": hostile, "result": "refused: UnknownCron",
        "request_id": answer.headers["x-request-id"],
    }  # fmt: skip
    (line,) = [record.getMessage() for record in caplog.records if record.name == "actor_scheduler.audit"]
    assert line.isprintable()
    assert OPERATE not in line
    for _ in range(5):
        await sent(operator, "/admin/resume")
    newest = (await got(operator, "/admin/audit", limit=3))["items"]
    assert [each["action"] for each in newest] == ["resume"] * 3


def test_the_trail_has_an_end() -> None:
    """A thousand deeds, the newest: what is older stands in the log."""
    trail = Audit(lambda: START)
    for number in range(KEPT + 5):
        trail.note(None, "act", str(number), "done", "id")
    assert [deed.target for deed in trail.latest(2 * KEPT)] == [str(number) for number in range(KEPT + 4, 4, -1)]


async def test_looking_leaves_no_trail(operator: httpx.AsyncClient) -> None:
    """Nor does counting before a bulk operation."""
    for path in ("/admin/jobs", "/admin/stats", "/admin/pools", "/admin/crons"):
        await got(operator, path)
    await sent(operator, "/admin/jobs/bulk", {"action": "drop", "filter": {}})
    assert await audit(operator) == []


CHANGES: list[tuple[str, Json]] = [
    ("/admin/jobs", {"path": "notes:prune"}), ("/admin/jobs/x/cancel", {}), ("/admin/jobs/x/retry", {}),
    ("/admin/jobs/x/drop", {}), ("/admin/jobs/x/promote", {}), ("/admin/jobs/bulk", {"action": "drop", "filter": {}}),
    ("/admin/call", {"path": "notes:prune"}), ("/admin/cron/run", {"name": "sweep"}), ("/admin/cron/pause", {"name": "sweep"}),
    ("/admin/cron/resume", {"name": "sweep"}), ("/admin/cron/manifests", {"crons": []}),
    ("/admin/cron/manifests/activate", {"version": 1}), ("/admin/pools", {"name": "mail", "limit": 1}),
    ("/admin/pause", {}), ("/admin/resume", {}), ("/admin/backup", {}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), CHANGES)
async def test_who_may_only_look_changes_nothing(site: Site, reader: httpx.AsyncClient, path: str, body: Json) -> None:
    """Nor does the trail open to who may only look."""
    before = await got(reader, "/admin/stats")
    assert (await sent(reader, path, body, 403))["error"]["code"] == "FORBIDDEN"
    await got(reader, "/admin/audit", 403)
    after = await got(reader, "/admin/stats")
    assert {name: after[name] for name in ("jobs", "crons", "paused")} == {
        name: before[name] for name in ("jobs", "crons", "paused")
    }


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/admin/jobs", None), ("GET", "/admin/stats", None), ("GET", "/admin/crons", None), ("GET", "/admin/pools", None),
     ("GET", "/admin/functions", None), ("GET", "/admin/upcoming", None), *(("POST", path, body) for path, body in CHANGES)],
)  # fmt: skip
async def test_a_stopped_app_says_that_it_is_stopped(
    site: Site, operator: httpx.AsyncClient, method: str, path: str, body: Any
) -> None:
    """With an answer that a client may try again after; what needs no running app is served."""
    await site.app._stop()
    answer = await operator.request(method, path, json=body)
    if path == "/admin/functions":
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE"), answer.text
    assert answer.headers["retry-after"]
    await got(operator, "/admin/me")
    await got(operator, "/admin/doctor")
