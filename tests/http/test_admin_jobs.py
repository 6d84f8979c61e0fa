"""Jobs over HTTP: what is listed is what is there, what is steered is what was meant, and what is hidden stays hidden."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from actor_scheduler.limits import PAGE_MAX
from runtime import App, MutationCtx, Namespace
from runtime.http import admin_jobs
from runtime.http.documents import job_row
from runtime.testing import Harness
from tests.http.asking import Json, audit, got, sent, walk
from tests.http.conftest import OPERATE, READ, Site, make_app, make_http

LAWS = settings(
    max_examples=15, deadline=None, derandomize=True, database=None,
    phases=(Phase.explicit, Phase.generate),  # each example is an app: to make a failing one smaller would take minutes
)  # fmt: skip
UNKNOWN = "0000000000000fff63e70682c2094cac"  # reads like an id


def on_site(scenario: Callable[[Site, httpx.AsyncClient], Awaitable[None]], **options: Any) -> None:
    """Run a scenario on a site of its own, from a law."""

    async def run() -> None:
        app, http = make_app(), make_http(**options)
        async with Harness(app, crons=False) as harness:
            site = Site(app, harness, http, app.asgi(http=http))
            async with site.client(OPERATE) as client:
                await scenario(site, client)

    asyncio.run(run())


async def populate(site: Site, plan: list[int]) -> None:
    """Schedule one job for each number: pending, succeeded, failed or canceled, in two lanes, with and without keys."""
    scheduler = site.app.scheduler
    for at, sort in enumerate(plan):
        options: Any = {"lane": f"lane-{at % 2}"} if sort % 2 else {}
        if sort < 4:
            options["key"] = f"key-{at}"
        match sort % 4:
            case 0:
                await scheduler.run_after(3_600, "notes:add", {"text": f"pending {at}"}, **options)
            case 1:
                await scheduler.run_now("notes:add", {"text": f"done {at}"}, **options)
            case 2:
                await scheduler.run_now("notes:refuse", {"code": "NO", "message": f"failed {at}"}, **options)
            case 3:
                job_id = await scheduler.run_after(60, "notes:add", {"text": f"canceled {at}"}, **options)
                await scheduler.cancel(job_id)
    await site.harness.settle()


# ------------------------------------------------------------------ lists


@LAWS
@given(
    st.lists(st.integers(0, 7), min_size=5, max_size=25),
    st.integers(1, 9),
    st.lists(st.sampled_from(["new", "cancel", "retry", "drop", "promote", "advance"]), max_size=12),
)
def test_pages_give_each_job_once_and_lose_none_that_was_there(plan: list[int], limit: int, changes: list[str]) -> None:
    """Whatever is scheduled, canceled, retried, dropped and run between two pages."""

    async def scenario(site: Site, client: httpx.AsyncClient) -> None:
        await populate(site, plan)
        before = {row["id"] for row in await walk(client, limit=PAGE_MAX)}
        seen: list[str] = []
        cursor, left, step = None, list(changes), 0
        while True:
            page = await got(client, "/admin/jobs", limit=limit, cursor=cursor)
            assert len(page["items"]) <= limit
            seen += [row["id"] for row in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
            if left:
                target = sorted(before)[(step * 7) % len(before)]
                step += 1
                match left.pop():
                    case "new":
                        await site.app.scheduler.run_now("notes:add", {"text": "new"})
                    case "advance":
                        await site.harness.advance(hours=2)
                    case change:
                        await client.post(f"/admin/jobs/{target}/{change}", json={})
        after = {row["id"] for row in await walk(client, limit=PAGE_MAX)}
        assert len(seen) == len(set(seen))
        assert before & after <= set(seen)
        assert seen == sorted(seen, reverse=True)  # ids rise

    on_site(scenario)


PARTS: list[Json] = [
    {},
    *({"state": state} for state in ("pending", "in_progress", "success", "failed", "canceled")),
    *({"function": path} for path in ("notes:add", "notes:refuse", "notes:none")),
    *({"lane": lane} for lane in ("lane-0", "lane-1", "lane-2")),
    *({"key": key} for key in ("key-0", "key-2", "key-99")),
    {"cause": "error"},
    *({"text": text} for text in ("PENDING", "failed", "lane-1", "%", "key", "NO")),
]
FILTERS: list[Json] = [
    {**one, **other} for one, other in itertools.combinations(PARTS, 2) if not one.keys() & other.keys()
]


def matches(row: Json, which: Json, args: Json) -> bool:
    """Whether a job matches a filter, as the documentation has it."""
    plain = all(row[{"function": "path"}.get(name, name)] == value for name, value in which.items() if name != "text")
    text = which.get("text")
    if text is None or not plain:
        return plain
    fields = [row[name] or "" for name in ("id", "path", "key", "lane", "cron", "error")]
    return any(text.lower() in field.lower() for field in fields) or any(text in str(value) for value in args.values())


async def test_a_filter_shows_exactly_what_matches(site: Site, operator: httpx.AsyncClient) -> None:
    """Each part and each pair of parts; in pages of any size; and the count says how many there are."""
    await populate(site, [sort for sort in range(8) for _ in range(2)])
    jobs = [await got(operator, f"/admin/jobs/{row['id']}") for row in await walk(operator)]
    sizes = set()
    for which in FILTERS:
        wanted = [job["id"] for job in jobs if matches(job, which, job["args"])]
        sizes.add(len(wanted))
        assert [row["id"] for row in await walk(operator, limit=3, **which)] == wanted, which
        assert await got(operator, "/admin/jobs/count", **which) == {"count": len(wanted), "complete": True}
    assert len(sizes) > 5


async def test_a_row_shows_what_the_job_is(site: Site, operator: httpx.AsyncClient) -> None:
    """And the whole document has everything else."""
    made = await sent(
        operator, "/admin/jobs",
        {"path": "notes:add", "args": {"text": "x"}, "in": "90m", "key": "k", "lane": "l", "priority": -3}, 201,
    )  # fmt: skip
    (row,) = await walk(operator, state="pending")
    assert row == {
        "id": made["id"], "path": "notes:add", "kind": "mutation", "state": "pending", "cause": None, "error": None,
        "attempt": 0, "key": "k", "lane": "l", "priority": -3, "cron": None, "parent_id": None,
        "scheduled_at": "2026-01-01T01:30:00.000000Z", "fire_at": "2026-01-01T01:30:00.000000Z",
        "created_at": "2026-01-01T00:00:00.000000Z", "started_at": None, "completed_at": None,
    }  # fmt: skip
    job = await got(operator, f"/admin/jobs/{made['id']}")
    assert row.items() <= job.items()
    assert (job["args"], job["hidden"], job["attempts"]) == ({"text": "x"}, False, [])
    await site.harness.advance(hours=2)
    job = await got(operator, f"/admin/jobs/{made['id']}")
    assert (job["state"], job["result"]) == ("success", 1)


async def test_a_retried_job_shows_its_attempts(site: Site, operator: httpx.AsyncClient) -> None:
    """Those that failed and were followed by another; of the last one there are error and traceback."""
    body = {"path": "notes:fail", "args": {"code": "NO", "message": "luck"}, "retry": {"max_attempts": 2, "base": "1m"}}
    job_id = (await sent(operator, "/admin/jobs", body, 201))["id"]
    await site.harness.advance(hours=1)
    job = await got(operator, f"/admin/jobs/{job_id}")
    assert (job["state"], job["cause"], job["attempt"]) == ("failed", "error", 2)
    assert (job["error_code"], job["error_data"]) == ("NO", {"message": "luck"})
    assert [(each["attempt"], each["cause"], each["error"]) for each in job["attempts"]] == [(1, "error", job["error"])]


# ------------------------------------------------------------------ who may see what


async def test_the_read_role_sees_no_arguments(
    site: Site, operator: httpx.AsyncClient, reader: httpx.AsyncClient
) -> None:
    """Nor what was returned, nor a traceback; and a search can't be used to guess them."""
    await site.app.scheduler.run_now("notes:refuse", {"code": "NO", "message": "secret words"})
    await site.harness.settle()
    (row,) = await walk(reader, function="notes:refuse")
    job = await got(reader, f"/admin/jobs/{row['id']}")
    assert job["hidden"] is True
    assert [job[name] for name in ("args", "result", "error_data", "traceback")] == [None] * 4
    whole = await got(operator, f"/admin/jobs/{row['id']}")
    assert (whole["hidden"], whole["args"]) == (False, {"code": "NO", "message": "secret words"})
    for path in ("/admin/jobs", "/admin/jobs/count"):
        refused = await got(reader, path, 403, text="secret")
        assert refused["error"]["code"] == "FORBIDDEN"
        assert "may not see" in refused["error"]["message"]
    assert (await got(operator, "/admin/jobs/count", text="secret"))["count"] == 1


async def test_the_read_role_may_be_shown_arguments(site: Site) -> None:
    """When the app says so; it may search for them then."""
    asgi = site.app.asgi(http=make_http(read_sees_arguments=True))
    await site.app.scheduler.run_now("notes:add", {"text": "open words"})
    await site.harness.settle()
    async with Site(site.app, site.harness, site.http, asgi).client(READ) as client:
        (row,) = await walk(client, text="open words")
        assert (await got(client, f"/admin/jobs/{row['id']}"))["args"] == {"text": "open words"}


# ------------------------------------------------------------------ scheduling


@pytest.mark.parametrize(
    ("when", "at"),
    [
        ({}, "2026-01-01T00:00:00.000000Z"),
        ({"in": 0}, "2026-01-01T00:00:00.000000Z"),
        ({"in": 1.5}, "2026-01-01T00:00:01.500000Z"),
        ({"in": "1h30m"}, "2026-01-01T01:30:00.000000Z"),
        ({"at": "2026-01-02T00:00:00+02:00"}, "2026-01-01T22:00:00.000000Z"),
        ({"at": "2026-01-02T00:00:00.000001Z"}, "2026-01-02T00:00:00.000001Z"),
        ({"at": 1_767_312_000}, "2026-01-02T00:00:00.000000Z"),
        ({"at": "2025-12-31T00:00:00Z"}, "2025-12-31T00:00:00.000000Z"),
    ],
)
async def test_a_job_is_scheduled_for_a_moment(operator: httpx.AsyncClient, when: Json, at: str) -> None:
    """In some time, at a moment, or now."""
    made = await sent(operator, "/admin/jobs", {"path": "notes:add", "args": {"text": "x"}, **when}, 201)
    assert (await got(operator, f"/admin/jobs/{made['id']}"))["scheduled_at"] == at


@pytest.mark.parametrize(
    ("body", "status", "code", "told"),
    [
        ({}, 400, "INVALID_BODY", "path"),
        ({"path": "notes:ad", "args": {}}, 404, "UNKNOWN_FUNCTION", "notes:add"),
        ({"path": "notes:count"}, 400, "WRONG_KIND", "query"),
        ({"path": "notes:add"}, 400, "INVALID_ARGS", "text"),
        ({"path": "notes:add", "args": {"text": "x", "extra": 1}}, 400, "INVALID_ARGS", "extra"),
        ({"path": "notes:add", "args": []}, 400, "INVALID_BODY", "args"),
        ({"path": 5}, 400, "INVALID_BODY", "path"),
        ({"path": "notes:prune", "unknown": 1}, 400, "INVALID_BODY", "unknown"),
        ({"path": "notes:prune", "in_": 1}, 400, "INVALID_BODY", "in_"),
        ({"path": "notes:prune", "in": 1, "at": 1}, 400, "INVALID_BODY", "exclude"),
        ({"path": "notes:prune", "in": True}, 400, "INVALID_BODY", "in"),
        ({"path": "notes:prune", "in": "soon"}, 400, "INVALID_ARGS", "in reads"),
        ({"path": "notes:prune", "in": -1}, 400, "INVALID_ARGS", "negative"),
        ({"path": "notes:prune", "in": 1e18}, 400, "INVALID_ARGS", "five years"),
        ({"path": "notes:prune", "at": "tomorrow"}, 400, "INVALID_ARGS", "at reads"),
        ({"path": "notes:prune", "at": "2026-01-01T00:00:00"}, 400, "INVALID_ARGS", "time zone"),
        ({"path": "notes:prune", "at": 1_767_312_000_000}, 400, "INVALID_ARGS", "milliseconds"),
        ({"path": "notes:prune", "at": "2099-01-01T00:00:00Z"}, 400, "INVALID_ARGS", "five years"),
        ({"path": "notes:prune", "key": ""}, 400, "INVALID_ARGS", "key"),
        ({"path": "notes:prune", "on_conflict": "error"}, 400, "INVALID_ARGS", "key"),
        ({"path": "notes:prune", "on_conflict": "explode", "key": "k"}, 400, "INVALID_BODY", "on_conflict"),
        ({"path": "notes:prune", "priority": 101}, 400, "INVALID_ARGS", "priority"),
        ({"path": "notes:prune", "priority": "1"}, 400, "INVALID_BODY", "priority"),
        ({"path": "notes:prune", "timeout": "0s"}, 400, "INVALID_ARGS", "timeout"),
        ({"path": "notes:prune", "timeout": 0}, 400, "INVALID_ARGS", "timeout"),
        ({"path": "notes:prune", "retry": 0}, 400, "INVALID_ARGS", "max_attempts"),
        ({"path": "notes:prune", "retry": {"jitter": 2}}, 400, "INVALID_ARGS", "jitter"),
        ({"path": "notes:prune", "retry": {"retry_on": "x"}}, 400, "INVALID_BODY", "retry"),
    ],
)
async def test_what_can_not_be_scheduled_is_refused_in_words(
    operator: httpx.AsyncClient, body: Json, status: int, code: str, told: str
) -> None:
    """Nothing is stored, the code says what a program needs, the message what a person needs."""
    before = (await got(operator, "/admin/jobs/count"))["count"]
    error = (await sent(operator, "/admin/jobs", body, status))["error"]
    assert error["code"] == code
    assert told in error["message"]
    assert (await got(operator, "/admin/jobs/count"))["count"] == before


async def test_keys_hold_over_http(operator: httpx.AsyncClient) -> None:
    """One unfinished job a key, and a resend is the same job."""
    body = {"path": "notes:add", "args": {"text": "x"}, "in": "1h", "key": "k"}
    first = await sent(operator, "/admin/jobs", body, 201)
    assert await sent(operator, "/admin/jobs", body, 201) == first
    refused = await sent(operator, "/admin/jobs", {**body, "on_conflict": "error"}, 409)
    assert refused["error"]["code"] == "KEY_CONFLICT"
    other = await sent(operator, "/admin/jobs", {**body, "on_conflict": "replace"}, 201)
    assert other != first
    assert (await got(operator, f"/admin/jobs/{first['id']}"))["state"] == "canceled"
    resend = {"path": "notes:add", "args": {"text": "y"}, "idempotency_key": "once"}
    assert await sent(operator, "/admin/jobs", resend, 201) == await sent(operator, "/admin/jobs", resend, 201)
    refused = await sent(operator, "/admin/jobs", {**resend, "args": {"text": "z"}}, 409)
    assert refused["error"]["code"] == "KEY_CONFLICT"


# ------------------------------------------------------------------ one job


async def test_one_job_is_steered(site: Site, operator: httpx.AsyncClient) -> None:
    """Each step tells whether it changed anything, and each is on record."""
    made = await sent(operator, "/admin/jobs", {"path": "notes:add", "args": {"text": "x"}, "in": "1h"}, 201)
    job = f"/admin/jobs/{made['id']}"
    assert await sent(operator, f"{job}/retry") == {"changed": False}
    assert await sent(operator, f"{job}/drop") == {"changed": False}
    assert await sent(operator, f"{job}/promote") == {"changed": True}
    await site.harness.settle()
    assert (await got(operator, job))["state"] == "success"
    assert await sent(operator, f"{job}/promote") == {"changed": False}
    assert await sent(operator, f"{job}/cancel") == {"changed": False}
    assert await sent(operator, f"{job}/drop") == {"changed": True}
    await sent(operator, f"{job}/drop", status=404)
    deeds = await audit(operator)
    assert deeds[0] == ("drop", made["id"], "refused: NOT_FOUND")
    assert [(action, result) for action, target, result in deeds if target == made["id"]][1:] == [
        ("drop", "changed"), ("cancel", "not changed"), ("promote", "not changed"), ("promote", "changed"),
        ("drop", "not changed"), ("retry", "not changed"),
    ]  # fmt: skip


async def test_a_failed_job_is_retried_unless_its_key_is_taken(site: Site, operator: httpx.AsyncClient) -> None:
    """A conflict is an answer."""
    args = {"code": "NO"}
    job_id = await site.app.scheduler.run_now("notes:refuse", args, key="k")
    await site.harness.settle()
    assert await sent(operator, f"/admin/jobs/{job_id}/retry") == {"changed": True}
    await site.harness.settle()
    await site.app.scheduler.run_after(60, "notes:refuse", args, key="k")
    assert (await sent(operator, f"/admin/jobs/{job_id}/retry", status=409))["error"]["code"] == "KEY_CONFLICT"
    assert (await audit(operator))[0] == ("retry", job_id, "refused: KeyConflict")


async def test_a_running_job_is_asked_to_stop(operator: httpx.AsyncClient) -> None:
    """Only when that is said."""
    namespace = Namespace[Any]("slow")

    @namespace.action
    async def wait(ctx: Any) -> None:
        await ctx.sleep(3_600)

    app = App[Any]("app.db", namespaces=[namespace])
    async with Harness(app) as harness:
        site = Site(app, harness, make_http(), app.asgi(http=make_http()))
        job_id = await app.scheduler.run_now("slow:wait")
        await harness.settle()
        async with site.client(OPERATE) as client:
            assert await sent(client, f"/admin/jobs/{job_id}/cancel") == {"changed": False}
            assert [row["id"] for row in (await got(client, "/admin/stats"))["running"]] == [job_id]
            assert await sent(client, f"/admin/jobs/{job_id}/cancel", {"running": True}) == {"changed": True}
            await harness.settle()
            assert (await got(client, f"/admin/jobs/{job_id}"))["state"] == "canceled"
            body = {"path": "slow:wait", "timeout": "30s", "retry": 2}
            job_id = (await sent(client, "/admin/jobs", body, 201))["id"]
            await harness.advance(minutes=5)
            job = await got(client, f"/admin/jobs/{job_id}")
            assert (job["state"], job["cause"], job["attempt"]) == ("failed", "timeout", 2)


@pytest.mark.parametrize("step", ["", "/cancel", "/retry", "/drop", "/promote"])
@pytest.mark.parametrize(
    "job_id", [UNKNOWN, "0" * 32, "nonsense", "..", "%00", "%F0%9F%92%A3", "x" * 2_000, "'--", "-1"]
)
async def test_an_unknown_job_is_not_found(operator: httpx.AsyncClient, step: str, job_id: str) -> None:
    """Whatever stands in the place of its id."""
    if job_id == "..":
        job_id = "%2E%2E"
    path = f"/admin/jobs/{job_id}{step}"
    answer = await (operator.post(path, json={}) if step else operator.get(path))
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]["code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("query", "code", "told"),
    [
        ("state=done", "INVALID_QUERY", "state"), ("cause=x", "INVALID_QUERY", "cause"), ("limit=0", "INVALID_QUERY", "limit"),
        ("limit=1001", "INVALID_QUERY", "limit"), ("limit=x", "INVALID_QUERY", "limit"), ("key=", "INVALID_QUERY", "key"),
        ("cursor=x", "INVALID_ARGS", "cursor"), ("cursor=", "INVALID_QUERY", "cursor"), ("order=asc", "INVALID_QUERY", "order"),
        ("text=", "INVALID_QUERY", "text"), ("state=failed&state=pending", "INVALID_QUERY", "twice"),
        ("text=" + "x" * 201, "INVALID_QUERY", "text"), ("lane=" + "x" * 257, "INVALID_QUERY", "lane"),
    ],
)  # fmt: skip
async def test_a_query_that_can_not_be_meant_is_refused(
    operator: httpx.AsyncClient, query: str, code: str, told: str
) -> None:
    """A list that left out what it did not understand would show the wrong jobs."""
    answer = await operator.get(f"/admin/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert told in answer.json()["error"]["message"]


# ------------------------------------------------------------------ calls


async def test_an_operator_calls_anything(site: Site, operator: httpx.AsyncClient) -> None:
    """Public, internal and system functions, of each kind; the function sees that it was an operator."""
    for path, args, result in (
        ("notes:add", {"text": "x"}, 1), ("notes:count", {}, 1), ("notes:send", {"to": "bo"}, "sent to bo"),
        ("notes:prune", {}, 1), ("notes:compact", {}, "compacted"),
    ):  # fmt: skip
        assert await sent(operator, "/admin/call", {"path": path, "args": args}) == {
            "result": result, "result_truncated": False,
        }  # fmt: skip
    assert (await audit(operator))[0] == ("call", "notes:compact", "done")


async def test_a_function_sees_which_operator_called(site: Site) -> None:
    """As the system, by hand of a key: never as a user."""
    namespace, seen = Namespace[Any]("who"), list[Any]()

    @namespace.mutation
    async def am_i(ctx: MutationCtx) -> None:
        seen.append((ctx.invoker, ctx.auth))

    app = App[Any]("app.db", namespaces=[namespace])
    async with Harness(app):
        async with Site(app, site.harness, make_http(), app.asgi(http=make_http())).client(OPERATE) as client:
            me = await got(client, "/admin/me")
            await sent(client, "/admin/call", {"path": "who:am_i"})
    ((invoker, auth),) = seen
    assert (invoker.type, invoker.source, invoker.operator, auth) == ("system", "admin", me["key_id"], None)


async def test_a_call_takes_effect_once_under_its_key(operator: httpx.AsyncClient) -> None:
    """As an app's own idempotent call does."""
    body = {"path": "notes:add", "args": {"text": "x"}, "idempotency_key": "k"}
    assert [(await sent(operator, "/admin/call", body))["result"] for _ in range(3)] == [1, 1, 1]
    assert (await sent(operator, "/admin/call", {"path": "notes:count"}))["result"] == 1
    conflict = await sent(operator, "/admin/call", {**body, "args": {"text": "y"}}, 409)
    assert conflict["error"]["code"] == "KEY_CONFLICT"


@pytest.mark.parametrize(
    ("body", "status", "code", "told"),
    [
        ({"path": "notes:nope"}, 404, "UNKNOWN_FUNCTION", "notes:"),
        ({"path": "__import__('os'):system"}, 404, "UNKNOWN_FUNCTION", "__import__"),
        ({"path": "notes:add"}, 400, "INVALID_ARGS", "text"),
        ({"path": "notes:refuse", "args": {"code": "GONE"}}, 410, "GONE", "refused"),
        ({"path": "notes:refuse", "args": {"code": "ODD_CODE"}}, 400, "ODD_CODE", "refused"),
        ({"path": "notes:fail"}, 500, "INTERNAL", ""),
        ({"path": "notes:count", "idempotency_key": "k"}, 400, "WRONG_KIND", "mutation"),
        ({"path": "notes:add", "args": {"text": "x"}, "idempotency_key": ""}, 400, "INVALID_ARGS", "idempotency_key"),
        ({"path": "notes:add", "args": {"text": "x"}, "as": "root"}, 400, "INVALID_BODY", "as"),
    ],
)
async def test_a_call_that_fails_says_why(
    operator: httpx.AsyncClient, body: Json, status: int, code: str, told: str
) -> None:
    """In the words of the function where it has some; and it is on record."""
    error = (await sent(operator, "/admin/call", body, status))["error"]
    assert error["code"] == code
    assert told in error["message"]
    if code != "INVALID_BODY":
        assert (await audit(operator))[0][0] == "call"
        assert (await audit(operator))[0][2] != "done"


# ------------------------------------------------------------------ many jobs

CHANGES = {"cancel": {"pending"}, "retry": {"failed"}, "drop": {"success", "failed", "canceled"}}


@pytest.mark.parametrize("action", sorted(CHANGES))
def test_a_bulk_operation_touches_exactly_what_was_counted(action: str) -> None:
    """What did not match, or was not in a state that the action changes, is afterwards as it was."""

    async def scenario(site: Site, client: httpx.AsyncClient) -> None:
        sizes = set()
        for which in (*PARTS, *random.Random(0).sample(FILTERS, 15)):
            await populate(site, list(range(8)))
            before = {job.id: job async for job in site.app.scheduler.list()}
            meant = {
                job_id
                for job_id, job in before.items()
                if job.state in CHANGES[action] and matches(job_row(job), which, dict(job.args))
            }
            sizes.add(len(meant))
            body = {"action": action, "filter": which}
            counted = await sent(client, "/admin/jobs/bulk", body)
            assert counted["count"] == len(meant), which
            assert {job.id: job async for job in site.app.scheduler.list()} == before
            done = await sent(client, "/admin/jobs/bulk", {**body, "confirm": counted["confirm"]})
            assert done == {"changed": len(meant)}
            after = {job.id: job async for job in site.app.scheduler.list()}
            assert {job_id for job_id in before if after.get(job_id) != before[job_id]} == meant, which
            assert after.keys() <= before.keys()
            for state in ("pending", "in_progress"):
                await site.app.scheduler.list(state=state).cancel()
            for state in ("success", "failed", "canceled"):
                await site.app.scheduler.list(state=state).drop()
        assert len(sizes) > 2

    on_site(scenario)


@LAWS
@given(
    st.sampled_from(sorted(CHANGES)),
    st.sampled_from(PARTS),
    st.lists(st.integers(0, 7), min_size=4, max_size=10),
    st.lists(st.sampled_from(["new", "cancel", "retry", "drop", "promote"]), max_size=8),
)
def test_what_comes_after_the_count_is_left_alone(action: str, which: Json, plan: list[int], later: list[str]) -> None:
    """Whatever happens in between: those are changed that were counted and still match, or else nobody is."""

    async def scenario(site: Site, client: httpx.AsyncClient) -> None:
        await populate(site, plan)
        body = {"action": action, "filter": which}
        counted = await sent(client, "/admin/jobs/bulk", body)
        mark_us = site.harness.now
        there = {job.id async for job in site.app.scheduler.list()}
        await site.harness.advance(seconds=1)
        for at, change in enumerate(later):
            if change == "new":
                await populate(site, [at % 8, (at + 1) % 8])
            else:
                await client.post(f"/admin/jobs/{sorted(there)[(at * 5) % len(there)]}/{change}", json={})
                await site.harness.settle()
        before = {job.id: job async for job in site.app.scheduler.list()}
        meant = {
            job_id for job_id in there & before.keys()
            if (job := before[job_id]).state in CHANGES[action] and matches(job_row(job), which, dict(job.args))
            and (job.completed_at is None or job.completed_at <= mark_us)
        }  # fmt: skip
        answer = await client.post("/admin/jobs/bulk", json={**body, "confirm": counted["confirm"]})
        after = {job.id: job async for job in site.app.scheduler.list()}
        changed = {job_id for job_id in before if after.get(job_id) != before[job_id]}
        if len(meant) > counted["count"]:
            assert (answer.status_code, changed) == (409, set())
        else:
            assert (answer.status_code, answer.json()) == (200, {"changed": len(meant)})
            assert changed == meant
        assert after.keys() <= before.keys()

    on_site(scenario)


async def test_a_stale_confirmation_changes_nothing(site: Site, operator: httpx.AsyncClient) -> None:
    """When the filter, the action or who asks is another, more jobs match, or five minutes are over."""
    await populate(site, [0, 0, 2])
    body: Json = {"action": "cancel", "filter": {"function": "notes:refuse"}}
    counted = await sent(operator, "/admin/jobs/bulk", body)
    assert (counted["count"], counted["expires_at"]) == (0, "2026-01-01T00:05:00.000000Z")
    confirmed = {**body, "confirm": counted["confirm"]}
    for other in (
        {"filter": {}},
        {"filter": {"state": "pending"}},
        {"action": "drop"},
        {"confirm": "x"},
        {"confirm": ""},
    ):
        assert (await sent(operator, "/admin/jobs/bulk", {**confirmed, **other}, 409))["error"][
            "code"
        ] == "CONFIRMATION_STALE"
    await site.app.scheduler.pause()
    assert await site.app.scheduler.list(state="failed").retry() == 1  # it was there, and matches only now
    refused = await sent(operator, "/admin/jobs/bulk", confirmed, 409)
    assert (refused["error"]["data"], "1 jobs" in refused["error"]["message"]) == ({"count": 1}, True)
    assert (await got(operator, "/admin/jobs/count", state="pending"))["count"] == 3
    assert (await audit(operator))[0] == ("cancel many", "function=notes:refuse", "refused: CONFIRMATION_STALE")
    counted = await sent(operator, "/admin/jobs/bulk", body)
    confirmed["confirm"] = counted["confirm"]
    await site.harness.advance(minutes=5)
    assert (await sent(operator, "/admin/jobs/bulk", confirmed, 409))["error"]["code"] == "CONFIRMATION_STALE"
    counted = await sent(operator, "/admin/jobs/bulk", body)
    assert await sent(operator, "/admin/jobs/bulk", {**body, "confirm": counted["confirm"]}) == {"changed": 1}
    assert (await audit(operator))[0] == ("cancel many", "function=notes:refuse", "changed 1")


@pytest.mark.parametrize(("action", "state"), [("cancel", "pending"), ("drop", "canceled"), ("retry", "failed")])
async def test_a_busy_app_can_be_swept(site: Site, operator: httpx.AsyncClient, action: str, state: str) -> None:
    """Jobs that come, or end, while somebody reads the number are left alone; fewer than were counted are fine."""
    await populate(site, [0, 2, 3] * 2)
    body: Json = {"action": action, "filter": {"state": state}}
    counted = await sent(operator, "/admin/jobs/bulk", body)
    await site.harness.advance(seconds=1)
    (one, *_) = await walk(operator, state=state)
    await sent(operator, f"/admin/jobs/{one['id']}/{action}")  # somebody was faster
    await site.harness.settle()
    (waits, *_) = await walk(operator, state="pending")
    await sent(operator, f"/admin/jobs/{waits['id']}/promote")  # and this one ends meanwhile
    await populate(site, [0, 2, 3])
    expected = counted["count"] - (2 if action == "cancel" else 1)
    assert await sent(operator, "/admin/jobs/bulk", {**body, "confirm": counted["confirm"]}) == {"changed": expected}


async def test_a_confirmation_is_used_once(site: Site, operator: httpx.AsyncClient) -> None:
    """Also when both requests come at once: one of them is refused, and says how many match now."""
    await populate(site, [0, 0])
    body: Json = {"action": "cancel", "filter": {}}
    confirmed = {**body, "confirm": (await sent(operator, "/admin/jobs/bulk", body))["confirm"]}
    answers = await asyncio.gather(*[operator.post("/admin/jobs/bulk", json=confirmed) for _ in range(3)])
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    assert [answer.json() for answer in answers if answer.status_code == 200] == [{"changed": 2}]
    await site.app.scheduler.run_after(3_600, "notes:add", {"text": "x"})
    refused = await sent(operator, "/admin/jobs/bulk", confirmed, 409)
    assert (refused["error"]["code"], refused["error"]["data"]) == ("CONFIRMATION_STALE", {"count": 1})


async def test_a_confirmation_is_of_one_key(site: Site, operator: httpx.AsyncClient) -> None:
    """What one operator counted, another one has not seen."""
    other_key = "other-operator-Qw3Er5Ty7Ui9Op1As2Df4Gh6"
    await populate(site, [0])
    site.http.operate.rotate(OPERATE, other_key)  # type: ignore[union-attr]
    body: Json = {"action": "cancel", "filter": {}}
    counted = await sent(operator, "/admin/jobs/bulk", body)
    async with site.client(other_key) as other:
        await sent(other, "/admin/jobs/bulk", {**body, "confirm": counted["confirm"]}, 409)
    assert await sent(operator, "/admin/jobs/bulk", {**body, "confirm": counted["confirm"]}) == {"changed": 1}


async def test_a_search_too_wide_to_count_is_not_begun(
    site: Site, operator: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator who can't be told how many jobs it would be can't have meant them."""
    await populate(site, [1] * 12)
    monkeypatch.setattr(admin_jobs, "ROWS_MAX", 10)
    body = {"action": "drop", "filter": {"text": "done"}}
    error = (await sent(operator, "/admin/jobs/bulk", body, 400))["error"]
    assert error["code"] == "FILTER_TOO_WIDE"
    assert "narrow" in error["message"]
    assert await got(operator, "/admin/jobs/count", text="done") == {"count": 10, "complete": False}


@pytest.mark.parametrize(
    "body",
    [
        {}, {"action": "cancel"}, {"action": "delete", "filter": {}}, {"filter": {}}, {"action": "drop", "filter": None},
        {"action": "drop", "filter": {"limit": 5}}, {"action": "drop", "filter": {"state": "x"}},
        {"action": "drop", "filter": {"text": ""}}, {"action": "drop", "filter": {}, "confirm": 5},
        {"action": "drop", "filter": {"key": 5}},
    ],
)  # fmt: skip
async def test_a_bulk_operation_without_meaning_is_refused(operator: httpx.AsyncClient, body: Json) -> None:
    """A part of a filter that is not understood must not be left out: more jobs would match."""
    assert (await sent(operator, "/admin/jobs/bulk", body, 400))["error"]["code"] == "INVALID_BODY"


async def test_many_pages_of_jobs_are_changed(operator: httpx.AsyncClient) -> None:
    """More than one page of a sweep holds."""
    namespace = Namespace[Any]("many")

    @namespace.mutation
    async def nothing(ctx: MutationCtx, *, n: int) -> None: ...

    app = App[Any]("app.db", namespaces=[namespace])
    async with Harness(app) as harness:
        await app.scheduler.run_many([nothing.bind(n=n) for n in range(2_500)])
        await harness.settle()
        async with Site(app, harness, make_http(), app.asgi(http=make_http())).client(OPERATE) as client:
            body = {"action": "drop", "filter": {"state": "success"}}
            counted = await sent(client, "/admin/jobs/bulk", body)
            assert await sent(client, "/admin/jobs/bulk", {**body, "confirm": counted["confirm"]}) == {"changed": 2_500}
            assert await got(client, "/admin/jobs/count") == {"count": 0, "complete": True}
