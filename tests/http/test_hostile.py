"""Hostile text, through every field that a user can fill, comes back over HTTP as what it was, and as nothing else.

The corpus stands in `hostile.py`; the dashboard and the command line are tested with the same app.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from actor_scheduler import codec
from actor_scheduler.errors import FunctionError, said
from actor_scheduler.limits import ERROR_CHARS_MAX, KEY_CHARS_MAX, NOTE_CHARS_MAX
from actor_scheduler.model import Job
from runtime.testing import Harness
from tests.http import hostile
from tests.http.asking import Json, audit, got, sent, walk
from tests.http.conftest import OPERATE, READ, Site, make_http

CODE_CHARS_MAX = 128


pytestmark = pytest.mark.asyncio(loop_scope="module")  # the app with the corpus is filled once


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def filled() -> AsyncIterator[Site]:
    """An app with the whole corpus in it."""
    app, http = hostile.make(), make_http()
    async with Harness(app) as harness:
        await hostile.fill(app)
        yield Site(app, harness, http, app.asgi(http=http))


@pytest_asyncio.fixture(loop_scope="module")
async def empty() -> AsyncIterator[httpx.AsyncClient]:
    """An operator of the same app, with nothing in it."""
    app, http = hostile.make(), make_http()
    async with Harness(app) as harness, Site(app, harness, http, app.asgi(http=http)).client(OPERATE) as client:
        yield client


async def test_the_corpus_is_what_it_says() -> None:
    """Text that can be stored, no two alike, some of it as long as anything may be, and some for every field."""
    assert len(set(hostile.CORPUS)) == len(hostile.CORPUS)
    for text in hostile.CORPUS:
        assert text.encode().decode() == text
    assert max(map(len, hostile.CORPUS)) == 100_000
    assert {KEY_CHARS_MAX} <= set(map(len, hostile.KEYS))
    assert min(map(len, (hostile.KEYS, hostile.NOTES, hostile.CRON_NAMES))) > 50


async def test_jobs_read_back_as_they_were_written(filled: Site) -> None:
    """Arguments, results, keys, lanes, errors, codes, data: each equal to what went in."""
    async with filled.client(OPERATE) as client:
        rows = await walk(client, limit=1_000)
        jobs = [await got(client, f"/admin/jobs/{row['id']}") for row in rows]
    by_path: dict[tuple[str, str], list[Json]] = {}
    for job in jobs:
        by_path.setdefault((job["path"].removeprefix("hostile:"), job["state"]), []).append(job)
    for job in by_path["keep", "success"]:
        assert (
            job["result"] == {"text": job["args"]["text"], "more": job["args"].get("more")} or job["result_truncated"]
        )
    kept = {job["args"]["text"] for job in by_path["keep", "success"]}
    assert set(hostile.CORPUS) <= kept
    assert {text for job in by_path["keep", "success"] for text in job["args"].get("more") or {}} == set(hostile.CORPUS)
    waiting = by_path["keep", "pending"]
    assert {job["key"] for job in waiting} == set(hostile.KEYS)
    assert all(job["key"] == job["lane"] == job["idempotency_key"] == job["args"]["text"] for job in waiting)
    for job in by_path["fail", "failed"]:
        assert job["error"] == said(hostile.Odd(job["args"]["text"]))[:ERROR_CHARS_MAX]
        assert job["traceback"].startswith("Traceback") or len(job["args"]["text"]) > 1_000
    for job in by_path["refuse", "failed"]:
        text = job["args"]["message"]
        assert job["error_code"] == text[:CODE_CHARS_MAX]
        data = {text: text, "list": [text, None, 1.5, 2**63 - 1]}
        assert job["error_data"] == (data if len(text) < 10_000 else repr(data)[:1_000])  # it was too large to be kept
        assert job["error"] == said(FunctionError(text, text))[:ERROR_CHARS_MAX]
    for job in by_path["fail_twice", "pending"]:
        (attempt,) = job["attempts"]
        assert attempt["error"] == job["error"] == said(hostile.Odd(job["args"]["text"]))[:ERROR_CHARS_MAX]
    for job in by_path["blob", "success"]:
        assert base64.b64decode(job["args"]["data"]["$bytes"]).decode() in hostile.CORPUS
    assert [job["error"] for job in by_path["mute", "failed"]] == ["Nameless"]


async def test_crons_read_back_as_they_were_written(filled: Site) -> None:
    """Names, notes, descriptions and arguments; each is found under its name, and no other."""
    async with filled.client(OPERATE) as client:
        crons = {cron["name"]: cron for cron in await walk(client, "/admin/crons")}
        assert set(hostile.CRON_NAMES) <= crons.keys()
        for name in hostile.CRON_NAMES:
            assert await got(client, "/admin/cron", name=name) == crons[name]
            assert crons[name]["args"] == {"text": name}
            runs = await walk(client, "/admin/cron/runs", name=name, state="success")
            assert {run["cron"] for run in runs} == {name}
            assert (await got(client, "/admin/cron/preview", name=name))["name"] == name
        noted = [cron for name, cron in crons.items() if name.startswith("note-")]
        assert {cron["note"] for cron in noted} == set(hostile.NOTES)
        assert all(cron["note"] == cron["description"] == cron["args"]["text"] for cron in noted)


async def test_filters_take_text_for_what_it_is(filled: Site) -> None:
    """A key, a lane, a search for a wildcard, a quote or a NUL finds what has exactly that."""
    async with filled.client(OPERATE) as client:
        for text in hostile.KEYS:
            for field in ("key", "lane"):
                (row,) = await walk(client, **{field: text})
                assert row[field] == text
        for text in hostile.CRON_NAMES:
            assert {row["cron"] for row in await walk(client, cron=text)} == {text}
        jobs = [job async for job in filled.app.scheduler.list()]
        searched = [text for text in hostile.CORPUS if len(text) <= 200]
        for text in searched[:: len(searched) // 25]:
            found = {row["id"] for row in await walk(client, text=text, limit=1_000)}
            assert found == {job.id for job in jobs if stands_in(text, job)}, text


def stands_in(text: str, job: Job) -> bool:
    """Whether a search for text finds a job: in its fields in either case, in its arguments as they are kept."""
    fields = (job.id, job.path, job.key, job.idempotency_key, job.lane, job.cron, job.error)
    low = lowered(text)
    return any(low in lowered(field or "") for field in fields) or text.encode() in codec.encode(job.args)


def lowered(text: str) -> str:
    """Return text with its ASCII letters in lower case."""
    return "".join(each.lower() if each.isascii() else each for each in text)


async def test_answers_are_json_that_no_browser_takes_for_a_page(filled: Site) -> None:
    """Plain ASCII, never sniffed, never shown in place, never kept."""
    async with filled.client(OPERATE) as client:
        for path in (
            "/admin/jobs?limit=1000",
            "/admin/crons?limit=1000",
            "/admin/stats",
            "/admin/upcoming",
            "/admin/functions",
        ):
            answer = await client.get(path)
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "application/json"
            assert answer.headers["content-disposition"] == 'attachment; filename="answer.json"'
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.content.isascii()
            assert not any(byte < 32 or byte == 127 for byte in answer.content.replace(b"\x7f", b""))


async def test_the_read_role_is_told_no_argument(filled: Site) -> None:
    """Not in any list, not in any document but in errors, which say what they say."""
    async with filled.client(READ) as client:
        for row in await walk(client, function="hostile:keep", limit=1_000):
            job = await got(client, f"/admin/jobs/{row['id']}")
            assert (job["args"], job["result"]) == (None, None)


# ------------------------------------------------------------------ in, over HTTP


async def test_text_goes_in_over_http_and_comes_out(empty: httpx.AsyncClient) -> None:
    """Through a job's fields, a call, and the notes of pauses."""
    for text in hostile.CORPUS:
        called = await sent(
            empty, "/admin/call", {"path": "hostile:keep", "args": {"text": text, "more": {text: text}}}
        )
        assert called["result"] == {"text": text, "more": {text: text}}
    for text in hostile.KEYS:
        body = {
            "path": "hostile:keep",
            "args": {"text": text},
            "in": "1h",
            "key": text,
            "lane": text,
            "idempotency_key": text,
        }
        job = await got(empty, f"/admin/jobs/{(await sent(empty, '/admin/jobs', body, 201))['id']}")
        assert (job["key"], job["lane"], job["idempotency_key"], job["args"]) == (text, text, text, {"text": text})
    for note in hostile.NOTES:
        assert await sent(empty, "/admin/pause", {"note": note}) == {"paused": note}
        assert (await got(empty, "/admin/stats"))["paused"] == note
    await sent(empty, "/admin/resume")


async def test_a_function_error_travels_as_it_was_said(empty: httpx.AsyncClient) -> None:
    """Code, message and data, in an answer that stays an error document."""
    for text in hostile.CORPUS:
        answer = await empty.post(
            "/admin/call", json={"path": "hostile:refuse", "args": {"code": text, "message": text}}
        )
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["message"]) == (text, text)
        assert error["data"] == {text: text, "list": [text, None, 1.5, 2**63 - 1]}


async def test_names_that_are_none_are_refused_in_plain_json(empty: httpx.AsyncClient) -> None:
    """Paths of functions, names of crons and pools, ids of jobs: what is told of them is bounded, and is no 5xx."""
    for text in hostile.CORPUS:
        for path, body in (
            ("/admin/call", {"path": text}), ("/admin/jobs", {"path": text}), ("/admin/cron/pause", {"name": text}),
            ("/admin/cron/run", {"name": text}), ("/admin/pools", {"name": text, "limit": 1}),
        ):  # fmt: skip
            answer = await empty.post(path, json=body)
            assert answer.status_code in {400, 404}, answer.text
            assert len(answer.content) < 4_000, (path, len(answer.content))
        answer = await empty.post(
            "/admin/cron/manifests", json={"crons": [{"name": text, "path": text, "cron": text, "tz": text}]}
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] in {"INVALID_CRON", "INVALID_BODY"}
        assert len(answer.content) < 4_000
    deeds = await audit(empty)
    assert {action for action, _, _ in deeds} == {
        "call",
        "schedule",
        "pause cron",
        "run cron",
        "set pool",
        "stage crons",
    }
    assert max(len(target) for _, target, _ in deeds) <= 300


async def test_too_much_text_is_refused(empty: httpx.AsyncClient) -> None:
    """One character more than a field holds."""
    for field in ("key", "lane", "idempotency_key"):
        body = {"path": "hostile:mute", field: "\u202e" * (KEY_CHARS_MAX + 1)}
        assert (await sent(empty, "/admin/jobs", body, 400))["error"]["code"] == "INVALID_ARGS"
    error = (await sent(empty, "/admin/pause", {"note": "x" * (NOTE_CHARS_MAX + 1)}, 400))["error"]
    assert error["code"] == "INVALID_ARGS"


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
async def test_half_a_character_is_refused(empty: httpx.AsyncClient, text: str) -> None:
    """It has no form in UTF-8, so it could be kept nowhere."""
    answer = await empty.post(
        "/admin/call",
        content=json.dumps({"path": "hostile:keep", "args": {"text": text}}),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BAD_JSON")
