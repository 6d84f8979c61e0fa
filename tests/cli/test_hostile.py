"""Hostile text, from jobs and from servers, is printed and means nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from runtime.cli import output
from runtime.testing import Harness
from tests.cli.conftest import Desk
from tests.http.hostile import CORPUS, CRON_NAMES, KEYS, fill, make

HARMFUL: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
LOOKS: Final = (
    ("jobs", "list", "--limit", "1000"), ("jobs", "list", "--state", "failed", "--limit", "1000"), ("cron", "list"),
    ("cron", "runs", "--limit", "1000"), ("stats",), ("pools",), ("cron", "manifests"), ("doctor",),
)  # fmt: skip


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is full of the corpus."""
    path = tmp_path_factory.mktemp("hostile") / "hostile.db"

    async def work() -> None:
        app = make(str(path))
        async with Harness(app, db=path, crons=False):
            await fill(app)

    asyncio.run(work())
    return path


@pytest.fixture
def hostile(filled: Path, tmp_path: Path) -> Desk:
    """A desk before an app that is full of the corpus."""
    shutil.copyfile(filled, tmp_path / "hostile.db")
    return Desk(tmp_path / "hostile.db", make)


def check_lines(text: str) -> None:
    """Every character is a printable one, but the newlines that we put in."""
    found = {char for char in text.replace("\n", "") if unicodedata.category(char) in HARMFUL}
    assert not found, sorted(found)


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_lists_are_lines_that_only_print(hostile: Desk, words: Sequence[str]) -> None:
    """Plain, and as JSON in one line of ASCII that reads back."""
    done = hostile(*words)
    assert done.exit_code == 0
    check_lines(done.stdout)
    programs = hostile(*words, "--json").stdout
    assert programs.isascii()
    assert programs.removesuffix("\n").isprintable()
    json.loads(programs)


def test_every_text_is_read_back_equal_for_programs(hostile: Desk) -> None:
    """Nothing is lost on the way to a script."""
    found = hostile.json("jobs", "list", "--function", "hostile:keep", "--state", "success", "--limit", "1000")
    keys = {job["key"] for job in hostile.json("jobs", "list", "--state", "pending", "--limit", "1000")["items"]}
    assert keys - {None} == set(KEYS)
    assert len(found["items"]) >= len(CORPUS)
    for name in CRON_NAMES[:5]:
        assert json.loads(hostile("cron", "show", "--json", "--", name).stdout)["name"] == name


def test_whole_jobs_are_lines_that_only_print(hostile: Desk) -> None:
    """Arguments, results, errors, tracebacks, keys and lanes."""
    jobs = hostile.json("jobs", "list", "--db", str(hostile.path), "--limit", "1000", "--all")["items"]
    picked: dict[Any, str] = {(job["path"], job["state"], job["key"]): job["id"] for job in jobs}
    docs = []
    for job_id in list(picked.values())[::12]:
        done = hostile("jobs", "get", job_id, "--db", str(hostile.path))
        check_lines(done.stdout)
        docs.append(done.stdout)
    assert len(docs) > 5


def test_tables_of_a_terminal_have_no_other_escapes_than_styles(hostile: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What rich writes are colours; what jobs hold is text, brackets too."""
    hostile.people = True
    monkeypatch.setattr(
        output, "_console", lambda: Console(width=200, markup=False, highlight=False, emoji=False, force_terminal=True)
    )
    for words in (("jobs", "list", "--limit", "1000"), ("cron", "list")):
        text = hostile(*words).stdout
        parts = text.split("\x1b[")
        assert all(part[: part.index("m")].replace(";", "").isdigit() for part in parts[1:])
        check_lines("".join(part[part.index("m") + 1 :] if at else part for at, part in enumerate(parts)))
    assert "[bold red]" in hostile("jobs", "list", "--limit", "1000", "--state", "failed").stdout


@pytest.mark.parametrize("text", [*CORPUS[:50:3], "x" * 100_000])
def test_what_a_server_says_is_printed_safely(hostile: Desk, text: str) -> None:
    """A server may not be what it seems."""
    told = {"error": {"code": text, "message": text, "request_id": text, "data": {text: text}}}
    for status in (400, 401, 403, 404, 409, 500, 503):
        hostile.answer = lambda _, status=status: httpx.Response(status, json=told)
        done = hostile("jobs", "get", "x")
        assert done.exit_code in {1, 3, 4}
        check_lines(done.output)


NAMES: Final = st.sampled_from(
    "items next_cursor id path state attempt error cause name schedule cron tz every_seconds count confirm changed job_id"
    " version active diff added limit declared running jobs crons database bytes wal_bytes ready paused now ticks local"
    " ok problems facts gravity text result throughput latency attempts traceback args fire_at completed_at".split()
)  # fmt: skip
LEAVES: Final = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
DOCUMENTS: Final = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=8), max_leaves=40
)
ASKS: Final = (
    *LOOKS, ("jobs", "get", "x"), ("jobs", "retry", "x"), ("jobs", "drop", "--all", "--yes"), ("cron", "run", "x"),
    ("cron", "preview", "x"), ("cron", "pause", "x"), ("cron", "activate", "1"), ("call", "x"), ("schedule", "x"),
    ("pools", "set", "x", "1"), ("pause",),
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(words=st.sampled_from(ASKS), doc=DOCUMENTS, status=st.sampled_from([200, 200, 200, 404, 500]))
def test_any_document_of_a_server_ends_in_words(desk: Desk, words: Sequence[str], doc: Any, status: int) -> None:
    """Of another release, or of nobody's: an exit code, and lines that only print; never a traceback."""
    desk.answer = lambda _: httpx.Response(status, json=doc)
    done = desk(*words)
    assert done.exit_code in {0, 1, 3, 4}
    assert done.exception is None or isinstance(done.exception, SystemExit)
    check_lines(done.output)


@pytest.mark.parametrize("name", [*CRON_NAMES[::4], "a/b", "a?b=c", "../x", "%2e%2e/x", "\u202e"])
def test_names_in_commands_reach_what_they_name(hostile: Desk, name: str) -> None:
    """Whatever stands in them: they are not a part of the path, and not read as options after --."""
    hostile.answer = lambda _: httpx.Response(404, json={"error": {"code": "UNKNOWN_CRON", "message": "no such cron"}})
    assert hostile("cron", "show", "--", name).exit_code == 4
    assert hostile.asked[-1].url.path == "/admin/cron"
    assert hostile.asked[-1].url.params["name"] == name
    hostile("jobs", "get", "--", name)
    assert hostile.asked[-1].url.raw_path.count(b"/") == 3 or not name
