"""Crons over HTTP: how they stand, what became of their ticks, and what operators make of them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runtime import App, Every
from runtime.testing import Harness
from tests.http.asking import Json, audit, got, sent, walk
from tests.http.conftest import OPERATE, Site, make_app, make_http

LAWS = settings(
    max_examples=15, deadline=None, derandomize=True, database=None,
    phases=(Phase.explicit, Phase.generate),  # each example is an app: to make a failing one smaller would take minutes
)  # fmt: skip

DIGEST: Json = {
    "name": "digest/paris", "schedule": {"cron": "0 8 * * *", "tz": "Europe/Paris"}, "path": "notes:send",
    "args": {"to": "paris"}, "hidden": False, "next_at": "2026-01-01T07:00:00.000000Z",
    "accounted_to": "2026-01-01T00:00:00.000000Z", "anchored_at": "2026-01-01T00:00:00.000000Z", "paused": False,
    "note": "", "origin": "manifest", "trouble": None, "enabled": True, "clock": "internal",
    "missed_tick_policy": "latest", "max_catch_up_ticks": 100, "max_catch_up_age_seconds": 172_800.0,
    "overlap": "skip", "jitter_seconds": 0.0, "description": "",
}  # fmt: skip


async def test_crons_are_shown(operator: httpx.AsyncClient, reader: httpx.AsyncClient) -> None:
    """By name; the read role sees no arguments."""
    crons = await walk(operator, "/admin/crons", limit=1)
    assert [cron["name"] for cron in crons] == ["digest/paris", "outside/hourly", "sweep"]
    assert crons[0] == DIGEST
    assert await got(operator, "/admin/cron", name="digest/paris") == DIGEST
    hidden = {**DIGEST, "args": None, "hidden": True}
    assert await got(reader, "/admin/cron", name="digest/paris") == hidden
    assert (await walk(reader, "/admin/crons", prefix="dig")) == [hidden]
    assert (await got(operator, "/admin/crons", prefix="x"))["items"] == []
    outside = await got(operator, "/admin/cron", name="outside/hourly")
    assert (outside["clock"], outside["next_at"]) == ("external", None)
    sweep = await got(operator, "/admin/cron", name="sweep")
    assert sweep["schedule"] == {"every_seconds": 300.0}


async def test_next_ticks_are_shown(operator: httpx.AsyncClient) -> None:
    """In UTC, and on the clock of the zone."""
    assert await got(operator, "/admin/cron/preview", name="digest/paris", n=2) == {
        "name": "digest/paris",
        "ticks": ["2026-01-01T07:00:00.000000Z", "2026-01-02T07:00:00.000000Z"],
        "local": ["2026-01-01T08:00:00+01:00", "2026-01-02T08:00:00+01:00"],
    }
    assert len((await got(operator, "/admin/cron/preview", name="sweep"))["ticks"]) == 5


@LAWS
@given(st.lists(st.sampled_from(["tick", "down", "run", "pause"]), max_size=10), st.integers(1, 7))
def test_pages_of_runs_give_each_once(plan: list[str], limit: int) -> None:
    """Of one cron and of all; and each state has its own."""

    async def scenario() -> None:
        app, http = make_app(), make_http()
        async with Harness(app) as harness:
            async with Site(app, harness, http, app.asgi(http=http)).client(OPERATE) as client:
                for step in plan:
                    match step:
                        case "tick":
                            await harness.advance(minutes=7)
                        case "down":
                            await harness.restart(down_for=1_800)
                        case "run":
                            await sent(client, "/admin/cron/run", {"name": "sweep"}, 202)
                        case "pause":
                            await sent(client, "/admin/cron/pause", {"name": "sweep"})
                            await harness.advance(minutes=12)
                            await sent(client, "/admin/cron/resume", {"name": "sweep"})
                await harness.settle()
                for name in ("sweep", None):
                    whole = await walk(client, "/admin/cron/runs", name=name, limit=1_000)
                    assert await walk(client, "/admin/cron/runs", name=name, limit=limit) == whole
                    parts = [
                        run
                        for state in ("success", "skipped", "failed", "pending", "in_progress", "canceled")
                        for run in await walk(client, "/admin/cron/runs", name=name, state=state, limit=limit)
                    ]
                    assert sorted(map(repr, parts)) == sorted(map(repr, whole))

    asyncio.run(scenario())


async def test_a_run_shows_what_became_of_it(site: Site, operator: httpx.AsyncClient) -> None:
    """Also of one that failed, and of ticks that were skipped."""
    await site.app.crons.register("bad", Every(hours=1), "notes:fail", {"message": "no luck"})
    await site.harness.settle()
    await site.harness.restart(down_for=3 * 3_600)
    await site.harness.settle()
    runs = (await got(operator, "/admin/cron/runs", name="bad"))["items"]
    states = [(run["state"], run["reason"], run["ticks"], run["error"]) for run in runs]
    assert ("failed", None, 1, "RuntimeError: no luck") in states
    assert ("skipped", "policy", 2, None) in states
    failed = next(run for run in runs if run["state"] == "failed")
    assert failed.keys() == {
        "cron", "tick", "first_tick", "state", "reason", "ticks", "skipped", "manual", "job_id", "attempts",
        "started_at", "duration_seconds", "lag_seconds", "error", "result_bytes",
    }  # fmt: skip
    assert (await got(operator, f"/admin/jobs/{failed['job_id']}"))["cron"] == "bad"


# ------------------------------------------------------------------ steering


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (1_700_000_000_000, "2023-11-14T22:13:20.000000Z"),
        (1_700_000_000_000.5, "2023-11-14T22:13:20.000500Z"),
        ("2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20.000000Z"),
        (None, "2026-01-01T00:00:00.000000Z"),
    ],
)
async def test_a_cron_is_run_by_hand(site: Site, operator: httpx.AsyncClient, given: Any, told: str) -> None:
    """On the path of a tick, with the moment it is told; its schedule does not move."""
    made = await sent(operator, "/admin/cron/run", {"name": "digest/paris", "scheduled_at": given}, 202)
    await site.harness.settle()
    job = await got(operator, f"/admin/jobs/{made['job_id']}")
    assert (job["state"], job["result"], job["cron"]) == ("success", "sent to paris", "digest/paris")
    (run,) = (await got(operator, "/admin/cron/runs", name="digest/paris"))["items"]
    assert (run["tick"], run["manual"], run["job_id"]) == (told, True, made["job_id"])
    assert await got(operator, "/admin/cron", name="digest/paris") == DIGEST
    assert (await audit(operator))[0] == ("run cron", "digest/paris", made["job_id"])


async def test_a_cron_is_paused_and_resumed(site: Site, operator: httpx.AsyncClient) -> None:
    """The answer is how it stands then."""
    paused = await sent(operator, "/admin/cron/pause", {"name": "sweep", "note": "ada: too much noise"})
    assert (paused["paused"], paused["note"], paused["next_at"]) == (True, "ada: too much noise", None)
    await site.harness.advance(hours=1)
    assert (await got(operator, "/admin/cron/runs", name="sweep", state="success"))["items"][1:] == []
    resumed = await sent(operator, "/admin/cron/resume", {"name": "sweep"})
    assert (resumed["paused"], resumed["note"]) == (False, "")
    assert [deed[:2] for deed in await audit(operator)] == [("resume cron", "sweep"), ("pause cron", "sweep")]


UNKNOWN_ASKED: list[tuple[str, Json | None]] = [
    ("/admin/cron?name=nope", None), ("/admin/cron/preview?name=nope", None), ("/admin/cron/run", {"name": "nope"}),
    ("/admin/cron/pause", {"name": "nope"}), ("/admin/cron/resume", {"name": "nope"}),
    ("/admin/cron?name=%00", None), ("/admin/cron/run", {"name": "\x00"}), ("/admin/cron/pause", {"name": ""}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), UNKNOWN_ASKED)
async def test_an_unknown_cron_is_not_found(operator: httpx.AsyncClient, path: str, body: Json | None) -> None:
    """By its name, which the answer tells."""
    answer = await (operator.get(path) if body is None else operator.post(path, json=body))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "UNKNOWN_CRON")


async def test_what_is_no_moment_is_refused(operator: httpx.AsyncClient) -> None:
    """A number of seconds where milliseconds are meant would be a tick of January 1970."""
    for when, told in (
        (1_700_000_000, "multiply by 1000"), (-1, "milliseconds"), (1e17, "milliseconds"), ("now", "scheduled_at reads"),
        ("2026-01-01T00:00:00", "time zone"),
    ):  # fmt: skip
        error = (await sent(operator, "/admin/cron/run", {"name": "sweep", "scheduled_at": when}, 400))["error"]
        assert error["code"] == "INVALID_ARGS"
        assert told in error["message"]
    assert (await audit(operator))[0] == ("run cron", "sweep", "refused: InvalidTime")


@pytest.mark.parametrize(
    "path",
    [
        "/admin/cron", "/admin/cron?name=", "/admin/cron?name=a&x=1", "/admin/cron/preview?name=sweep&n=0",
        "/admin/cron/preview?name=sweep&n=1001", "/admin/cron/runs?state=ok", "/admin/cron/runs?limit=0",
        "/admin/crons?limit=1001", "/admin/crons?prefix=" + "x" * 129, "/admin/cron/manifests?limit=x",
        "/admin/crons?cursor=", "/admin/cron/runs?cursor=",
    ],
)  # fmt: skip
async def test_a_query_that_can_not_be_meant_is_refused(operator: httpx.AsyncClient, path: str) -> None:
    """Rather than answered otherwise."""
    answer = await operator.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_QUERY"), answer.text


async def test_a_cursor_of_another_list_is_refused(operator: httpx.AsyncClient) -> None:
    """It is what a page said, and nothing else."""
    answer = await operator.get("/admin/cron/runs", params={"cursor": "\x00 nonsense"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "INVALID_ARGS")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/cron/run", {}), ("/admin/cron/run", {"name": 5}), ("/admin/cron/run", {"name": "a", "args": {}}),
        ("/admin/cron/run", {"name": "a", "scheduled_at": True}), ("/admin/cron/pause", {"name": "a", "note": 5}),
        ("/admin/cron/resume", {"name": "a", "note": "x"}), ("/admin/cron/manifests", {}),
        ("/admin/cron/manifests", {"crons": {}}), ("/admin/cron/manifests", {"crons": [{"name": "a", "x": 1}]}),
        ("/admin/cron/manifests/activate", {"version": "1"}), ("/admin/cron/manifests/activate", {"version": 1.5}),
    ],
)  # fmt: skip
async def test_a_body_that_can_not_be_meant_is_refused(operator: httpx.AsyncClient, path: str, body: Json) -> None:
    """Rather than taken for something near."""
    assert (await sent(operator, path, body, 400))["error"]["code"] == "INVALID_BODY"


async def test_a_note_has_an_end(operator: httpx.AsyncClient) -> None:
    """A thousand characters; more are refused by the scheduler itself."""
    assert (await sent(operator, "/admin/cron/pause", {"name": "sweep", "note": "x" * 1_001}, 400))["error"]["code"]
    assert len((await sent(operator, "/admin/cron/pause", {"name": "sweep", "note": "x" * 1_000}))["note"]) == 1_000


# ------------------------------------------------------------------ manifests

DEFINITIONS: list[Json] = [
    {"name": "sweep", "every_seconds": 300, "path": "notes:prune"},
    {"name": "digest/paris", "cron": "0 9 * * *", "tz": "Europe/Paris", "path": "notes:send", "args": {"to": "paris"}},
    {
        "name": "new", "every_seconds": 1.5, "path": "notes:add", "args": {"text": "x"}, "missed_tick_policy": "all",
        "max_catch_up_ticks": 7, "max_catch_up_age": "90m", "overlap": "queue", "jitter": 0.5, "enabled": True,
        "description": "new", "clock": "internal",
    },
]  # fmt: skip
DIFF: Json = {
    "added": ["new"], "updated": ["digest/paris"], "unchanged": ["sweep"], "deleted": ["outside/hourly"],
}  # fmt: skip


async def test_a_manifest_is_staged_and_activated(site: Site, operator: httpx.AsyncClient) -> None:
    """Staging changes nothing but the record; activating does what the difference said."""
    before = await walk(operator, "/admin/crons")
    staged = await sent(operator, "/admin/cron/manifests", {"crons": DEFINITIONS})
    assert staged == {"version": 2, "active": False, "diff": DIFF}
    assert await walk(operator, "/admin/crons") == before
    newest, oldest = (await got(operator, "/admin/cron/manifests"))["items"]
    assert (newest["diff"], oldest["diff"]) == (staged["diff"], None)
    assert (newest["state"], newest["crons"]) == ("staged", ["digest/paris", "new", "sweep"])
    assert (oldest["state"], oldest["version"]) == ("active", 1)
    assert await sent(operator, "/admin/cron/manifests/activate", {"version": 2}) == DIFF
    crons = {cron["name"]: cron for cron in await walk(operator, "/admin/crons")}
    assert crons.keys() == {"sweep", "digest/paris", "new"}
    new = crons["new"]
    assert (new["missed_tick_policy"], new["max_catch_up_ticks"], new["overlap"]) == ("all", 7, "queue")
    assert (new["max_catch_up_age_seconds"], new["jitter_seconds"], new["description"]) == (5_400.0, 0.5, "new")
    assert crons["sweep"] == before[-1]
    assert [deed[:2] for deed in await audit(operator)] == [("activate crons", "version 2"), ("stage crons", "3 crons")]
    back = await sent(operator, "/admin/cron/manifests/activate", {"version": 1})
    assert (back["added"], back["deleted"]) == (["outside/hourly"], ["new"])


async def test_everything_that_is_wrong_with_a_manifest_is_told_at_once(operator: httpx.AsyncClient) -> None:
    """Cron by cron and field by field; nothing is staged."""
    crons = [
        {"name": "none", "path": "notes:prune"},
        {"name": "both", "path": "notes:prune", "cron": "* * * * *", "every_seconds": 5},
        {"name": "five", "path": "notes:prune", "cron": "* * * *"},
        {"name": "zone", "path": "notes:prune", "cron": "* * * * *", "tz": "Mars/Base"},
        {"name": "short", "path": "notes:prune", "every_seconds": 0.5},
    ]
    error = (await sent(operator, "/admin/cron/manifests", {"crons": crons}, 400))["error"]
    assert error["code"] == "INVALID_CRON"
    for name in ("none", "both", "five", "zone", "short"):
        assert f"cron '{name}'" in error["message"]
    assert len((await got(operator, "/admin/cron/manifests"))["items"]) == 1
    assert (await audit(operator))[0][2] == "refused: InvalidCron"


@pytest.mark.parametrize(
    "wrong",
    [
        {"jitter": "2d"}, {"max_catch_up_ticks": 0}, {"max_catch_up_age": -1}, {"name": "é"}, {"name": ""},
        {"description": "x" * 1_001}, {"jitter": 5, "clock": "external"},
    ],
)  # fmt: skip
async def test_a_rule_that_can_not_hold_is_refused(operator: httpx.AsyncClient, wrong: Json) -> None:
    """When it is staged, not when it is activated."""
    cron = {"name": "a", "every_seconds": 60, "path": "notes:prune", **wrong}
    assert (await sent(operator, "/admin/cron/manifests", {"crons": [cron]}, 400))["error"]["code"] == "INVALID_CRON"


async def test_null_means_nothing_said_but_for_an_age(operator: httpx.AsyncClient) -> None:
    """As a client writes it that sends every field."""
    cron: Json = {
        "name": "a", "every_seconds": 60, "path": "notes:prune", "overlap": None, "jitter": None, "clock": None,
        "cron": None, "args": None, "enabled": None, "description": None, "max_catch_up_age": None,
    }  # fmt: skip
    version = (await sent(operator, "/admin/cron/manifests", {"crons": [cron]}))["version"]
    await sent(operator, "/admin/cron/manifests/activate", {"version": version})
    (shown,) = await walk(operator, "/admin/crons")
    assert (shown["overlap"], shown["clock"], shown["enabled"]) == ("skip", "internal", True)
    assert shown["max_catch_up_age_seconds"] is None


@pytest.mark.parametrize("version", [0, -1, 2, 1 << 63, 10**30])
async def test_a_version_that_is_not_there_is_refused(operator: httpx.AsyncClient, version: int) -> None:
    """Nothing changes."""
    before = await walk(operator, "/admin/crons")
    answer = await operator.post("/admin/cron/manifests/activate", json={"version": version})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in {"INVALID_ARGS", "BAD_JSON"}
    assert await walk(operator, "/admin/crons") == before


async def test_an_app_without_crons_has_none() -> None:
    """And says so."""
    app, http = App[Any]("app.db"), make_http()
    async with Harness(app) as harness, Site(app, harness, http, app.asgi(http=http)).client(OPERATE) as client:
        assert await got(client, "/admin/crons") == {"items": [], "next_cursor": None}
        assert await got(client, "/admin/cron/runs") == {"items": [], "next_cursor": None}
