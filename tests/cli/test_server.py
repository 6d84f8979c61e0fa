"""The real entry point, in processes of its own, against a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from runtime.cli.main import cli
from tests.http.conftest import OPERATE

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60
RUNNING: Final = re.compile(rb"running on (http://127\.0\.0\.1:\d+)")


def start(folder: Path, *words: str, **env: str) -> subprocess.Popen[bytes]:
    given = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "COLUMNS": "100", **env}
    given.pop("ACTOR_SCHEDULER_KEY_FILE", None)
    command = [sys.executable, "-m", "runtime.cli", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=given, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, preexec_fn=heed_interrupts
    )


def heed_interrupts() -> None:
    """Be interrupted as from a terminal, also where these tests run in the background, which ignores that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def until(stream: Any, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
    """Read lines until one has the pattern; whoever ends before has failed."""
    seen = []
    for line in stream:
        seen.append(line)
        if found := pattern.search(line):
            return found
    raise AssertionError(b"".join(seen).decode())


@dataclass
class Server:
    """A server that is running, and commands that go to it."""

    folder: Path
    url: str
    process: subprocess.Popen[bytes]

    def command(self, *words: str, **env: str) -> subprocess.Popen[bytes]:
        return start(self.folder, *words, **{"ACTOR_SCHEDULER_URL": self.url, "ACTOR_SCHEDULER_KEY": OPERATE, **env})

    def run(self, *words: str, **env: str) -> tuple[int, str, str]:
        """Run a command in this process, over a real socket."""
        given = {"ACTOR_SCHEDULER_URL": self.url, "ACTOR_SCHEDULER_KEY": OPERATE, "ACTOR_SCHEDULER_KEY_FILE": None}
        done = CliRunner().invoke(cli, list(words), env={**given, **env})
        return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`actor-scheduler serve`, on a free port, until the tests end."""
    tmp_path = tmp_path_factory.mktemp("served")
    process = start(tmp_path, "serve", "tests.cli.sample:app", "--port", "0", ACTOR_SCHEDULER_DEPLOY_KEY=OPERATE)
    try:
        found = until(process.stderr, RUNNING)
        drain = threading.Thread(target=lambda: [None for _ in process.stderr or ()], daemon=True)
        drain.start()
        yield Server(tmp_path, found[1].decode(), process)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        drain.join(PATIENCE)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_a_served_app_is_operated(server: Server) -> None:
    """Figures, a call, a backup; the file itself is refused while it runs; a wrong key is not let in."""
    code, out, _ = server.run("stats", "--json")
    assert code == 0
    assert json.loads(out)["ready"] is True
    assert server.run("call", "work:note", '{"text": "x"}')[0] == 0
    code, out, err = server.run("backup", str(server.folder / "copy.db"), "--json")
    assert code == 0, err
    copy = sqlite3.connect(server.folder / "copy.db")
    assert copy.execute("SELECT count(*) FROM _scheduler_crons").fetchone() == (4,)
    copy.close()
    code, _, err = server.run("jobs", "list", "--db", str(server.folder / "sample.db"), ACTOR_SCHEDULER_URL="")
    assert code == 1
    assert f"process {server.process.pid}" in err
    assert "--url" in err
    assert server.run("doctor", str(server.folder / "sample.db"))[0] == 0
    code, _, err = server.run("migrate", str(server.folder / "sample.db"))
    assert code == 1
    assert "stop the app first" in err
    code, _, err = server.run("stats", ACTOR_SCHEDULER_KEY=OPERATE[::-1])
    assert (code, err) == (3, f"error: {server.url} does not accept this key\n")


def test_what_happens_is_watched_live_until_the_terminal_ends_it(server: Server) -> None:
    """One JSON document a line, from the moment on that it says it watches; Ctrl-C is how it is meant to end."""
    watching = server.command("jobs", "watch", "--json", "--function", "work:note", "--state", "success")
    try:
        until(watching.stderr, re.compile(rb"watching"))
        job_id = json.loads(server.run("schedule", "work:note", "--json")[1])["id"]
        assert watching.stdout is not None
        event = json.loads(watching.stdout.readline())
        assert event["path"] == "work:note"
        assert event["state"] == "success"
        assert event["id"] <= job_id  # a cron of the same function may have come before it
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=PATIENCE)
        assert watching.returncode == 0, err
        assert all(json.loads(line)["path"] == "work:note" for line in out.splitlines())
    finally:
        watching.kill()
        watching.communicate()


def test_a_reader_that_goes_away_ends_a_command_quietly(server: Server) -> None:
    """As `| head` does: no error, no traceback; an answer, and the next line of a stream."""
    commands = [server.command("stats"), server.command("jobs", "watch")]
    try:
        for command in commands:
            assert command.stdout is not None
            command.stdout.close()
        until(commands[1].stderr, re.compile(rb"watching"))
        server.run("schedule", "work:note")
        for command in commands:
            assert command.wait(PATIENCE) == 0
            assert command.stderr is not None
            assert command.stderr.read() == b""
    finally:
        for command in commands:
            command.kill()
            command.wait()
            if command.stderr is not None:
                command.stderr.close()


def test_any_asgi_application_is_served_as_it_is(tmp_path: Path) -> None:
    """FastAPI with the app's lifespan, say; it ends at a signal, with its file closed."""
    process = start(tmp_path, "serve", "tests.cli.sample:api", "--port", "0")
    try:
        until(process.stderr, RUNNING)
        assert (tmp_path / "sample.db").exists()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert not (tmp_path / "sample.db-wal").exists()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("target", "key", "said"),
    [
        ("tests.cli.sample:app", "short", "ACTOR_SCHEDULER_DEPLOY_KEY has 5 characters"),
        ("tests.cli.sample:work", OPERATE, "neither an App nor an ASGI application"),
    ],
)
def test_what_can_not_be_served(target: str, key: str, said: str) -> None:
    """Words, and never the key."""
    done = CliRunner().invoke(cli, ["serve", target, "--port", "0"], env={"ACTOR_SCHEDULER_DEPLOY_KEY": key})
    assert done.exit_code == 2
    (line,) = [line for line in done.stderr.splitlines() if line != "loaded"]  # which the module prints
    assert said in line
    assert key == OPERATE or key not in done.output


def test_an_app_that_does_not_start(tmp_path: Path) -> None:
    """An exit code that a supervisor sees, and what is wrong in the log."""
    process = start(tmp_path, "serve", "tests.cli.sample:bad", "--port", "0", ACTOR_SCHEDULER_DEPLOY_KEY=OPERATE)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, b"")
    assert b"was not started" in err
    assert b"Nowhere" in err


def test_a_terminal_without_unicode_gets_escapes(server: Server) -> None:
    """And no traceback."""
    server.run("schedule", "work:note", "--in", "1h", "--key", "\u6771\u4eac")
    listing = server.command("jobs", "list", "--state", "pending", PYTHONIOENCODING="latin-1")
    out, err = listing.communicate(timeout=PATIENCE)
    assert listing.returncode == 0, err
    assert b"key \\u6771\\u4eac" in out
