"""What commands do to an app, what they print, and how they end."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.conftest import Desk
from tests.http.conftest import READ


def test_a_job_from_its_schedule_to_its_end(desk: Desk) -> None:
    """Schedule, list, get, cancel, promote; the same documents as over HTTP."""
    job_id = desk.json("schedule", "notes:add", '{"text": "hello"}', "--in", "5m", "--key", "k")["id"]
    page = desk.json("jobs", "list", "--state", "pending", "--key", "k")
    assert [job["id"] for job in page["items"]] == [job_id]
    job = desk.json("jobs", "get", job_id)
    assert job["args"] == {"text": "hello"}
    assert job["fire_at"] == "2026-01-01T00:05:00.000000Z"
    assert desk.json("jobs", "promote", job_id) == {"id": job_id, "changed": True}
    desk.later(seconds=1)
    assert desk.json("jobs", "get", job_id)["state"] == "success"
    assert desk.json("jobs", "drop", job_id)["changed"]
    assert desk("jobs", "get", job_id).exit_code == 4


def test_moments_and_options_of_a_schedule(desk: Desk) -> None:
    """ISO, epoch seconds, seconds from now; options as the app takes them."""
    for words, at in (
        (("--at", "2026-01-02T00:00:00Z"), "2026-01-02T00:00:00.000000Z"),
        (("--at", "1767312000"), "2026-01-02T00:00:00.000000Z"),
        (("--in", "90"), "2026-01-01T00:01:30.000000Z"),
        (("--in", "1h30m"), "2026-01-01T01:30:00.000000Z"),
    ):
        job_id = desk.json("schedule", "notes:send", *words, "--lane", "l", "--priority", "3", "--retry", "4")["id"]
        job = desk.json("jobs", "get", job_id)
        assert (job["fire_at"], job["lane"], job["priority"]) == (at, "l", 3)
    assert desk("schedule", "notes:send", "--in", "5m", "--at", "1767312000").exit_code == 2
    assert desk("schedule", "notes:send", "--at", "tomorrow").exit_code == 1
    assert desk("schedule", "notes:nothing").exit_code == 4


def test_a_call_prints_what_it_returns(desk: Desk) -> None:
    """Arguments as text, from a file, from standard input; internal and system functions too."""
    file = desk.path.with_name("args.json")
    file.write_text('{"text": "from a file", "times": 2}')
    assert desk("call", "notes:add", '{"text": "x"}').stdout == "1\n"
    assert desk("call", "notes:add", f"@{file}").stdout == "3\n"
    assert desk("call", "notes:add", "-", input='{"text": "y"}').stdout == "4\n"
    assert desk.json("call", "notes:compact")["result"] == "compacted"
    for bad in ('{"a": 1, "a": 2}', "[1]", "{", "@/nowhere", '{"a": NaN}', '"\\ud800"'):
        assert desk("call", "notes:add", bad).exit_code == 2, bad
    assert desk("call", "notes:add", "{").stderr.startswith("error: the arguments can't be read as JSON: ")
    refused = desk("call", "notes:refuse", '{"code": "CONFLICT", "message": "no\\u001b[2J"}')
    assert refused.exit_code == 1
    assert refused.stderr == "error: no\\x1b[2J [CONFLICT]\n"
    assert desk("call", "notes:add", '{"text": 7}').exit_code == 1


def test_an_idempotent_call_takes_effect_once(desk: Desk) -> None:
    """The first answer is every answer."""
    for _ in range(2):
        assert desk.json("call", "notes:add", '{"text": "x"}', "--idempotency-key", "i")["result"] == 1
    assert desk.json("call", "notes:count")["result"] == 1


def test_many_jobs_after_a_confirmation(desk: Desk) -> None:
    """What matches is counted first, and nothing is done unless somebody says yes."""
    for _ in range(3):
        desk("schedule", "notes:send", "--in", "1h")
    desk("schedule", "notes:prune", "--in", "1h")
    refused = desk("jobs", "cancel", "--function", "notes:send")
    assert refused.exit_code == 2
    assert "cancel 3 jobs?" in refused.stderr
    assert "--yes" in refused.stderr
    assert desk.json("jobs", "cancel", "--function", "notes:send", "--yes") == {"changed": 3}
    assert desk.json("jobs", "cancel", "--function", "notes:send", "--yes", code=1) == {"changed": 0}
    assert desk("jobs", "retry", "--all", "--yes").stderr == "error: no such job to retry\n"
    assert len(desk.json("jobs", "list", "--state", "pending")["items"]) == 1
    assert desk.json("jobs", "drop", "--all", "--yes") == {"changed": 3}


@pytest.mark.parametrize(("stale", "code", "posts"), [(0, 0, 2), (2, 0, 6), (3, 1, 6)])
def test_a_count_that_does_not_hold_any_more_is_taken_again(desk: Desk, stale: int, code: int, posts: int) -> None:
    """By itself with --yes, three times at most; each confirmation is that of the newest count."""
    tokens: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        if "confirm" not in asked:
            tokens.append(f"token {len(tokens)}")
            return httpx.Response(200, json={"count": len(tokens), "confirm": tokens[-1], "expires_at": "…"})
        assert asked["confirm"] == tokens[-1]
        if len(tokens) <= stale:
            error = {"code": "CONFIRMATION_STALE", "message": "4 jobs match now", "data": {"count": 4}}
            return httpx.Response(409, json={"error": error})
        return httpx.Response(200, json={"changed": len(tokens)})

    desk.answer = answer
    done = desk("jobs", "drop", "--all", "--yes", "--json")
    assert (done.exit_code, len(desk.asked)) == (code, posts)
    assert done.stdout == ("" if code else f'{{"changed": {len(tokens)}}}\n')
    assert done.stderr.count("counted again") == min(stale, 2)
    assert ("4 jobs match now [CONFIRMATION_STALE]" in done.stderr) == bool(code)


def test_a_confirmation_that_is_refused_otherwise_is_not_asked_for_again(desk: Desk) -> None:
    """And what nobody changes is an exit code."""
    told = {"count": 1, "confirm": "t", "expires_at": "…", "changed": 0}
    desk.answer = lambda _: httpx.Response(200, json=told)
    done = desk("jobs", "drop", "--all", "--yes")
    assert (done.exit_code, done.stdout) == (1, "drop: 0 changed\n")
    desk.answer = lambda asked: (
        httpx.Response(409, json={"error": {"code": "X", "message": "no"}})
        if b"confirm" in asked.content
        else httpx.Response(200, json=told)
    )
    done = desk("jobs", "drop", "--all", "--yes")
    assert (done.exit_code, done.stderr) == (1, "error: no [X]\n")


@pytest.mark.parametrize("action", ["cancel", "retry", "drop"])
def test_which_jobs_must_be_said_one_way(desk: Desk, action: str) -> None:
    """Not all of them by a word that was forgotten."""
    for words in ((), ("x", "--state", "failed"), ("--all", "--state", "failed"), ("x", "--all")):
        assert desk("jobs", action, *words).exit_code == 2
    assert desk("jobs", action, "00" * 16).exit_code == 4
    assert desk.asked[-1].url.path == f"/admin/jobs/{'00' * 16}/{action}" or desk.asked[-1].url.path == "/admin/me"


def test_what_changes_nothing_is_said_and_is_an_exit_code(desk: Desk) -> None:
    """A script must see that a job could not be canceled any more."""
    job_id = desk.json("schedule", "notes:prune")["id"]
    desk.later(seconds=1)
    for action in ("cancel", "retry", "promote"):
        done = desk("jobs", action, job_id)
        assert done.exit_code == 1
        assert "not changed" in done.stdout
        assert "only a" in done.stderr
    assert desk.json("jobs", "cancel", job_id, job_id, code=1) == {
        "items": [{"id": job_id, "changed": False}, {"id": job_id, "changed": False}]
    }


def test_all_pages_and_one(desk: Desk) -> None:
    """Every job once."""
    ids = [desk.json("schedule", "notes:send", "--in", "1h")["id"] for _ in range(5)]
    first = desk.json("jobs", "list", "--limit", "2")
    assert [job["id"] for job in first["items"]] == ids[:2:-1]
    second = desk.json("jobs", "list", "--limit", "2", "--cursor", first["next_cursor"])
    assert [job["id"] for job in second["items"]] == ids[2:0:-1]
    assert [job["id"] for job in desk.json("jobs", "list", "--limit", "2", "--all")["items"]] == ids[::-1]
    said = desk("jobs", "list", "--limit", "2")
    assert said.stderr == f"more: --cursor {first['next_cursor']}, or --all\n"
    assert len(said.stdout.splitlines()) == 3


def test_crons(desk: Desk) -> None:
    """List, show, preview, run, pause, resume, runs."""
    assert [cron["name"] for cron in desk.json("cron", "list")["items"]] == ["digest/paris", "outside/hourly", "sweep"]
    assert [cron["name"] for cron in desk.json("cron", "list", "--prefix", "s")["items"]] == ["sweep"]
    assert desk.json("cron", "show", "digest/paris")["schedule"] == {"cron": "0 8 * * *", "tz": "Europe/Paris"}
    assert desk.json("cron", "preview", "digest/paris", "-n", "1")["local"] == ["2026-01-01T08:00:00+01:00"]
    assert desk.json("cron", "pause", "sweep", "--note", "by me")["note"] == "by me"
    assert desk.json("cron", "resume", "sweep")["paused"] is False
    at = ("--scheduled-at", "1767225600000")
    job_id = desk.json("cron", "run", "digest/paris", *at, "--project-url", "http://localhost:3000")["job_id"]
    assert desk.json("jobs", "get", job_id)["scheduled_at"] == "2026-01-01T00:00:00.000000Z"
    assert "started as job" in desk("cron", "run", "sweep", "--scheduled-at", "2026-01-01T00:00:00Z").stdout
    desk.later(seconds=1)
    runs = desk.json("cron", "runs", "digest/paris")["items"]
    assert [(run["job_id"], run["manual"], run["state"]) for run in runs] == [(job_id, True, "success")]
    assert len(desk.json("cron", "runs", "--limit", "1")["items"]) == 1
    for words in (("show",), ("preview",), ("run",), ("pause",), ("resume",)):
        assert desk("cron", *words, "nothing").exit_code == 4
    assert desk("cron", "run", "sweep", "--scheduled-at", "1767225600").exit_code == 1  # that is in seconds


def test_a_manifest_is_staged_and_activated(desk: Desk) -> None:
    """The pushed version waits until it is let hold."""
    manifest = {"crons": [{"name": "sweep", "every_seconds": 60, "path": "notes:prune"}]}
    staged = desk.json("cron", "stage", "-", input=json.dumps(manifest))
    assert staged["active"] is False
    assert staged["diff"]["deleted"] == ["digest/paris", "outside/hourly"]
    assert desk.json("cron", "manifests")["items"][0]["version"] == staged["version"]
    assert desk("cron", "activate", "99").exit_code == 1
    assert desk("cron", "stage", "-", input='{"crons": 7}').exit_code == 2
    assert desk("cron", "stage", "-", input='{"crons": [{"name": "x", "path": "y"}]}').exit_code == 1
    assert desk("cron", "stage", "-", input="[]").exit_code == 0


def test_a_whole_app(desk: Desk) -> None:
    """Figures, pauses, pools, doctor."""
    assert desk.json("stats")["ready"] is True
    assert desk.json("pause", "--note", "by me") == {"paused": "by me"}
    assert desk.json("stats")["paused"] == "by me"
    assert desk.json("resume") == {"paused": None}
    assert desk.json("pools")["items"] == [{"name": "mail", "limit": 2, "declared": 2, "running": 0}]
    assert desk.json("pools", "set", "mail", "0")["limit"] == 0
    assert "0 (paused)" in desk("pools").stdout
    assert desk.json("pools", "set", "mail", "default")["limit"] == 2
    assert desk("pools", "set", "mail", "many").exit_code == 2
    assert desk("pools", "set", "nothing", "1").exit_code == 4
    assert desk.json("doctor")["ok"] is True


def test_a_backup_is_whole_private_and_never_overwrites_by_itself(desk: Desk, tmp_path: Path) -> None:
    """Over HTTP and of a closed file."""
    desk("call", "notes:add", '{"text": "kept"}')
    for name, words in (("one.db", ()), ("two.db", ("--db", str(desk.path)))):
        target = tmp_path / name
        done = desk.json("backup", str(target), *words)
        assert done["bytes"] == target.stat().st_size
        assert stat.S_IMODE(target.stat().st_mode) == 0o600
        with sqlite3.connect(target) as copy:
            assert copy.execute("SELECT text FROM notes").fetchall() == [("kept",)]
        copy.close()
        for side in ("-wal", "-shm"):
            target.with_name(name + side).unlink(missing_ok=True)
        assert desk("backup", str(target), *words).exit_code == 1
        assert desk("backup", str(target), "--overwrite", *words).exit_code == 0
        assert desk("backup", str(tmp_path / "no" / "where.db"), *words).exit_code in {1, 4}
    assert desk("backup", str(desk.path), "--overwrite", "--db", str(desk.path)).exit_code == 1
    assert not list(tmp_path.glob(".*"))


def test_a_closed_file(desk: Desk) -> None:
    """What looks and steers works; what needs functions is refused before anything is opened, and says what to do."""
    job_id = desk.json("schedule", "notes:send", "--in", "5m")["id"]
    desk("pools", "set", "mail", "1")
    db = ("--db", str(desk.path))
    assert [job["id"] for job in desk.json("jobs", "list", "--state", "pending", *db)["items"]] == [job_id]
    assert desk.json("jobs", "promote", job_id, *db)["changed"]
    assert desk.json("jobs", "get", job_id, *db)["state"] == "pending"
    assert desk.json("jobs", "cancel", job_id, *db)["changed"]
    assert desk.json("jobs", "drop", "--state", "canceled", "--yes", *db) == {"changed": 1}
    assert desk.json("cron", "pause", "sweep", *db)["paused"] is True
    assert desk.json("cron", "resume", "sweep", *db)["paused"] is False
    assert len(desk.json("cron", "preview", "sweep", *db)["ticks"]) == 5
    assert desk.json("pools", *db)["items"] == [{"name": "mail", "limit": 1, "declared": None, "running": 0}]
    assert desk.json("pools", "set", "mail", "default", *db)["limit"] is None
    assert desk.json("pause", *db) == {"paused": "paused"}
    assert desk.json("resume", *db) == {"paused": None}
    stats = desk.json("stats", *db)
    assert stats["ready"] is False
    assert (stats["started_at"], stats["throughput"], set(stats["latency"].values())) == (None, [], {None})
    figures = dict(line.split("  ", 1) for line in desk("stats", *db).stdout.splitlines()[:10])
    assert {figures[name].strip() for name in ("started", "last hour", "latency")} == {"-"}
    assert [run["state"] for run in desk.json("cron", "runs", *db)["items"]] == ["pending"]  # caught up, and waits
    for words in (
        ("schedule", "notes:send"), ("call", "notes:send"), ("cron", "run", "sweep"), ("cron", "activate", "1"),
        ("jobs", "watch"),
    ):  # fmt: skip
        done = desk(*words, *db)
        assert done.exit_code == 2
        assert "use --url" in done.stderr
    assert desk("jobs", "list", "--db", str(desk.path.with_name("nothing.db"))).exit_code == 4
    assert not desk.path.with_name("nothing.db").exists()
    assert desk("jobs", "list", "--db", "x", "--url", "http://localhost").exit_code == 2


def test_the_read_role_looks_and_changes_nothing(desk: Desk) -> None:
    """Exit code 3: not let in."""
    job_id = desk.json("schedule", "notes:add", '{"text": "secret"}', "--in", "5m")["id"]
    desk.key = READ
    assert desk.json("jobs", "get", job_id)["hidden"] is True
    assert "may not see" in desk("jobs", "get", job_id).stdout
    done = desk("jobs", "cancel", job_id)
    assert done.exit_code == 3
    assert "error:" in done.stderr


def test_one_document_for_programs_and_nothing_else(desk: Desk) -> None:
    """Whatever goes wrong is said on standard error."""
    desk("schedule", "notes:fail")
    desk.later(seconds=1)
    for words in (
        ("jobs", "list"), ("jobs", "list", "--limit", "1"), ("cron", "list"), ("cron", "runs"), ("stats",), ("pools",),
        ("doctor",), ("cron", "manifests"), ("cron", "preview", "sweep"), ("resume",),
    ):  # fmt: skip
        done = desk(*words, "--json")
        assert len(done.stdout.splitlines()) == 1, words
        assert isinstance(json.loads(done.stdout), dict)
        assert done.stderr == "", words
        assert desk(*words).stdout.isprintable() or "\n" in desk(*words).stdout
    failed: Any = desk("jobs", "get", "nothing", "--json")
    assert failed.stdout == ""
    assert failed.stderr.startswith("error: ")


def test_a_prefix_stands_in_the_url(desk: Desk) -> None:
    """Where the app is mounted below another one."""
    desk.prefix = "/scheduler"
    assert desk.json("stats")["ready"] is True
    assert desk.asked[0].url.path == "/scheduler/admin/stats"
    done = desk("stats", "--url", "http://127.0.0.1:8000")
    assert done.exit_code == 3
    assert "no administration" in done.stderr
    assert "below which the app is mounted" in done.stderr
    for answer in (httpx.Response(404, json={"detail": "Not Found"}), httpx.Response(200, text="<html>")):
        desk.answer = lambda _, answer=answer: answer
        done = desk("stats")
        assert done.exit_code == 3
        assert "below which the app is mounted" in done.stderr


def test_a_watch_asks_again_until_somebody_answers_and_ends_when_it_is_not_let_in(desk: Desk) -> None:
    """What is lost is said once; another key than the right one is not tried for ever."""
    event = {"id": "x", "path": "notes:add", "state": "success", "attempt": 1, "at": "2026-01-01T00:00:00.000000Z"}
    stream = f': beat\n\nevent: changed\ndata: {{}}\n\nevent: lagged\ndata: {{"dropped": 3}}\n\nevent: job\ndata: {json.dumps(event)}\n\n'
    answers: list[Any] = [stream, httpx.ConnectError("no"), httpx.ConnectError("no"), stream, 401]

    def answer(request: httpx.Request) -> httpx.Response:
        given = answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return httpx.Response(given, json={"error": {}}) if isinstance(given, int) else httpx.Response(200, text=given)

    desk.answer = answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.cli.jobs.pause", _at_once)
        done = desk("jobs", "watch", "--json")
    assert done.exit_code == 3
    assert [json.loads(line) for line in done.stdout.splitlines()] == [event, event]
    assert done.stderr.count("asking again") == 1
    assert done.stderr.count("3 events were dropped") == 2
    assert done.stderr.endswith("does not accept this key\n")


async def _at_once(*_: object) -> None:
    pass


def test_root_does_not_follow_a_link(desk: Desk) -> None:
    """Who could have made it could choose the file; anybody else opens what they may open."""
    desk("schedule", "notes:send", "--in", "1h")
    link = desk.path.with_name("link.db")
    link.symlink_to(desk.path)
    for words in (("jobs", "list", "--db", str(link)), ("migrate", str(link))):
        done = desk(*words)
        assert done.exit_code == (1 if os.geteuid() == 0 else 0)
        assert ("symbolic link" in done.stderr) == (os.geteuid() == 0)
