"""What a shell completes of an app: what click's own machinery answers, and what bash makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from click.shell_completion import CompletionItem, ShellComplete
from hypothesis import given
from hypothesis import strategies as st

from actor_scheduler.testing.clock import VirtualClock
from actor_scheduler.times import from_datetime
from runtime.cli import completing
from runtime.cli.client import World
from runtime.cli.completing import Bash
from runtime.cli.main import NAME, cli
from tests.cli.conftest import URL, Desk
from tests.http.conftest import OPERATE

VAR: Final = "_ACTOR_SCHEDULER_COMPLETE"
NAMES: Final = (
    "daily digest",
    "a:b c",
    "x';rm -rf ~;'",
    "$(reboot)",
    "`reboot`",
    "été *",
    "a\\b",
    '"',
    "#",
    "!!",
    "{a,b}",
)


@pytest.fixture(autouse=True)
def way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of an operator, on a machine that is busy."""
    monkeypatch.setattr(completing, "_PATIENCE_SECONDS", 60.0)
    monkeypatch.setenv("ACTOR_SCHEDULER_URL", URL)
    monkeypatch.setenv("ACTOR_SCHEDULER_KEY", OPERATE)


def offered(desk: Desk, *words: str, typed: str = "") -> list[CompletionItem[str]]:
    """Return what is completed behind these words."""
    world = World(clock=VirtualClock(from_datetime(desk.at)), transport=desk._transport)
    return ShellComplete(cli, {"obj": world}, NAME, VAR).get_completions(list(words), typed)


def values(desk: Desk, *words: str, typed: str = "") -> list[str]:
    return [item.value for item in offered(desk, *words, typed=typed)]


def test_names_of_an_app_are_completed(desk: Desk) -> None:
    """Crons, pools, functions: wherever a command takes one, with one request."""
    crons = ["digest/paris", "outside/hourly", "sweep"]
    for words in (("cron", "pause"), ("cron", "runs"), ("cron", "preview", "-n", "3"), ("jobs", "list", "--cron")):
        assert values(desk, *words) == crons
    assert values(desk, "cron", "run", typed="s") == ["sweep"]
    assert values(desk, "cron", "run", typed="x") == []
    assert values(desk, "pools", "set") == ["mail"]
    for words in (("call",), ("schedule",), ("jobs", "watch", "--function"), ("jobs", "drop", "--function")):
        assert {"notes:add", "notes:send"} <= set(values(desk, *words))
        assert values(desk, *words, typed="notes:a") == ["notes:add"]
    assert values(desk, "jobs", "list", "--state", typed="f") == ["failed"]
    assert values(desk, "jobs", "watch", "--state", typed="in") == ["in_progress"]
    desk.asked.clear()
    values(desk, "cron", "pause")
    assert len(desk.asked) == 1


def test_ids_of_the_newest_jobs_that_a_command_is_for(desk: Desk) -> None:
    """Twenty at most, with what they are."""
    desk("schedule", "notes:fail")
    desk.later(seconds=1)
    failed = desk.json("jobs", "list")["items"][0]["id"]
    ids = [desk.json("schedule", "notes:send", "--in", "1h")["id"] for _ in range(22)][::-1]
    assert values(desk, "jobs", "get") == ids[:20]
    for action in ("cancel", "promote"):
        assert values(desk, "jobs", action) == ids[:20]
    assert values(desk, "jobs", "cancel", ids[0], typed=ids[3]) == [ids[3]]
    assert values(desk, "jobs", "cancel", "--running") == []
    for action in ("retry", "drop"):
        (item,) = offered(desk, "jobs", action)
        assert (item.value, item.help) == (failed, "failed notes:fail")


def test_whatever_goes_wrong_is_silent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """No answer, no key, another server, another release, a closed file: nothing is completed, printed or read."""
    answers = (
        httpx.Response(401), httpx.Response(500, text="<html>"), httpx.Response(200, text="no"),
        httpx.Response(200, json=[]), httpx.Response(200, json={"items": 7}), httpx.Response(200, json={"items": [7, {}]}),
        httpx.Response(302, headers={"location": "http://x"}),
    )  # fmt: skip
    for answer in answers:
        desk.answer = lambda _, answer=answer: answer
        for words in (("cron", "pause"), ("pools", "set"), ("call",), ("jobs", "drop"), ("jobs", "get")):
            assert [name for name in values(desk, *words) if name] == []
    desk.answer = None
    asked = len(desk.asked)
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{OPERATE}\n" * 9))
    for options in (("--db", str(desk.path)), ("--url", "nonsense"), ("--key-file", "-"), ("--key-file", "/nowhere")):
        assert values(desk, "cron", "pause", *options) == []
    monkeypatch.setenv("ACTOR_SCHEDULER_KEY_FILE", "-")
    monkeypatch.delenv("ACTOR_SCHEDULER_KEY")
    assert values(desk, "cron", "pause") == []
    monkeypatch.delenv("ACTOR_SCHEDULER_KEY_FILE")
    assert values(desk, "cron", "pause") == []
    assert len(desk.asked) == asked
    assert capfd.readouterr() == ("", "")


def test_nobody_waits_for_an_app_that_does_not_answer(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is completed then."""

    @contextlib.asynccontextmanager
    async def never() -> AsyncIterator[httpx.AsyncBaseTransport]:
        async def wait(_: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

        yield httpx.MockTransport(wait)

    monkeypatch.setattr(completing, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(desk, "_transport", never)
    assert values(desk, "cron", "pause") == []


# ------------------------------------------------------------------ bash


def in_bash(line: str, names: list[str], breaks: str = " \t\n\"'><=;|&(:") -> list[str]:
    """Return what bash is told for a line that ends at the cursor, when these names are completed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMP_WORDS", line)
        patch.setenv("COMP_WORDBREAKS", breaks)
        shell = Bash(cli, {}, NAME, VAR)
        _, typed = shell.get_completion_args()
        return [
            shell.format_completion(CompletionItem(name))
            for name in names
            if name.startswith(typed.partition("=")[2] or typed)
        ]


def test_bash_is_told_the_rest_of_a_word_behind_its_last_colon() -> None:
    """Where bash itself ends a word at a colon, and else the whole."""
    names = ["notes:add", "notes:send"]
    assert in_bash("actor-scheduler call no", names) == ["plain,notes:add", "plain,notes:send"]
    assert in_bash("actor-scheduler call notes:", names) == ["plain,add", "plain,send"]
    assert in_bash("actor-scheduler call notes:s", names) == ["plain,send"]
    assert in_bash("actor-scheduler call notes:s", names, breaks=" ") == ["plain,notes:send"]
    assert in_bash("actor-scheduler jobs list --function=notes:s", names) == ["plain,send"]
    assert in_bash("actor-scheduler call ", names) == ["plain,notes:add", "plain,notes:send"]
    assert in_bash("actor-scheduler cron run daily\\ d", ["daily digest"]) == ["plain,daily\\ digest"]


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1))
def test_a_completed_name_is_one_word_for_a_shell(name: str) -> None:
    """And that word is the name, whatever stands in it."""
    (told,) = in_bash("actor-scheduler cron run ", [name])
    assert shlex.split(told.removeprefix("plain,")) == [name]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_takes_every_name_for_one_word(tmp_path: Path) -> None:
    """The script itself, in bash, asking a program in our place; what it would type means nothing but the name."""
    answers = tmp_path / "answers"
    answers.write_text("".join(in_bash("actor-scheduler cron run ", [name])[0] + "\n" for name in NAMES))
    program = tmp_path / "actor-scheduler"
    program.write_text(f'#!/bin/sh\n[ "$COMP_WORDS" = "actor-scheduler cron run x" ] && cat {answers}\n')
    program.chmod(0o700)
    script = (
        Bash(cli, {}, NAME, VAR).source()
        + """
        COMP_LINE='actor-scheduler cron run x and more' COMP_POINT=26 COMP_CWORD=3
        _actor_scheduler_completion actor-scheduler
        for each in "${COMPREPLY[@]}"; do eval "printf '%s\\n' $each"; done
    """
    )
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "--norc"], input=script.encode(), capture_output=True, env=env, timeout=60, check=False
    )
    assert done.stderr == b""
    assert done.stdout.decode().splitlines() == list(NAMES)
