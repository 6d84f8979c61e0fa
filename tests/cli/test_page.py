"""The page about the command line: each of its commands is run, in order, and prints what stands there.

`python -m tests.cli.test_page` writes down what they print now.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from examples.shop.gateway import GatewayError, gateway
from examples.shop.main import app
from runtime.cli.main import cli
from tests.cli.conftest import Desk
from tests.cli.test_server import PATIENCE, RUNNING, start, until
from tests.http.conftest import OPERATE
from tests.maintenance.files import copy_of

PAGE: Final = Path(__file__).parents[2] / "docs" / "command-line.md"
PIECES: Final = re.compile(r"^```console\n(.*?)^```$|^<!-- later: (\d+) s -->$", re.DOTALL | re.MULTILINE)
ID: Final = re.compile(r"\b[0-9a-f]{32}\b")
VARIES: Final = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
    (re.compile(r"\b\d+(\.\d+)? (B|KiB|MiB|GiB)\b"), "SIZE"),
    (re.compile(r"\b\d+\.\d+\.\d+\b"), "VERSION"),
    (re.compile(r"(?<=SQLite  ).*"), "VERSION"),
    (re.compile(r"(?<= )/\S+/"), ""),
    (re.compile(r" +"), " "),
    (re.compile(r"-{2,}"), "--"),
)
LIVE: Final = (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "MOMENT")
MEASURED: Final = ("latency", "last hour", "started", "file", "database", "disk", "pages", "free", "owner")


class Bank:
    """A gateway that refuses the first charge."""

    def __init__(self) -> None:
        self.asked = 0

    async def charge(self, key: str, *, order_id: int, amount: int) -> str:
        self.asked += 1
        if self.asked == 1:
            msg = "503 Service Unavailable"
            raise GatewayError(msg)
        return f"charge-{order_id}-{amount}"


class Reader:
    """Somebody who reads the page and types what stands there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env: dict[str, str] = {}
        bank = Bank()
        self.desk = Desk(folder / "shop.db", lambda: app, key=None, prefix="/scheduler", crons=True)
        self.desk.prepare = lambda harness: harness.override(gateway, bank)
        self.ids: list[str] = []  # as they were printed, and as they stand on the page
        self.shown: list[str] = []
        self.commands: set[tuple[str, ...]] = set()
        (folder / "shop.key").write_text(OPERATE + "\n")
        (folder / "shop.key").chmod(0o600)
        copy_of(2, folder / "old.db")

    def type(self, line: str) -> list[str]:
        """Run a line of a shell, and return the lines it prints."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.env[name] = value
            return []
        if line.startswith('eval "$('):
            assert "complete" in "".join(self.run(shlex.split(line[8:-2])))
            return []
        line, _, file = line.partition(" > ")
        printed = self.run(shlex.split(self.known(line)))
        if file:
            Path(file).write_text("\n".join(printed) + "\n")
            return []
        return printed

    def known(self, line: str) -> str:
        """Return a line with the ids that were printed in the place of those of the page."""
        return ID.sub(lambda found: self.ids[self.shown.index(found[0])], line)

    def run(self, words: list[str]) -> list[str]:
        assert words[0] == "actor-scheduler"
        self.commands.add(tuple(word for word in words[1:3] if not word.startswith("-")))
        if words[1] == "serve":
            with served(self.folder, words[1:]):
                return []
        if words[1:3] == ["jobs", "watch"]:
            return self.watch(words[1:])
        env = {} if "--db" in words else {**self.env}
        done = self.desk(*words[1:], env=env)
        assert not isinstance(done.exception, Exception), done.exception
        lines = done.output.rstrip("\n").split("\n") if done.output else []
        return lines

    def watch(self, words: list[str]) -> list[str]:
        """Watch a real server while something happens to it."""
        command = ["serve", "tests.cli.watched:app"]
        with served(self.folder, command) as url:
            env = {"ACTOR_SCHEDULER_URL": url, "ACTOR_SCHEDULER_KEY": OPERATE}
            watching = start(self.folder, *words, **env)
            try:
                until(watching.stderr, re.compile(rb"watching"))
                assert CliRunner().invoke(cli, ["schedule", "carts:sweep"], env=env).exit_code == 0
                out, _ = watching.communicate(timeout=PATIENCE)
                return [f"watching {self.env['ACTOR_SCHEDULER_URL']}", *out.decode().rstrip("\n").split("\n")]
            finally:
                watching.kill()
                watching.communicate()


@contextlib.contextmanager
def served(folder: Path, words: list[str]) -> Iterator[str]:
    """Serve for as long, on a port that is free."""
    words = words[: words.index("--port")] if "--port" in words else words
    env = {"ACTOR_SCHEDULER_DEPLOY_KEY": OPERATE, "SHOP_DB": str(folder / "served.db")}
    process = start(folder, *words, "--port", "0", **env)
    try:
        yield until(process.stderr, RUNNING)[1].decode()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.communicate()


def alike(lines: list[str], command: str, ids: list[str]) -> list[str]:
    """Return lines without what differs from run to run."""
    found = []
    if " doctor " in command:  # what it notes depends on the machine, and on today
        lines = [line for line in lines if not line.startswith(("NOTE", "    "))]
    for line in lines:
        for pattern, instead in (*VARIES, *([LIVE] if " watch" in command else [])):
            line = pattern.sub(instead, line)
        line = ID.sub(lambda found: "ID" if " watch" in command else f"ID{ids.index(found[0])}", line)
        name = line.partition("  ")[0].partition(" ")[0]
        found.append(name if any(line.startswith(each) for each in MEASURED) else line.strip())
    return found


def read(page: str, reader: Reader) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each command of the page, what stands below it, and what it prints."""
    for piece in PIECES.finditer(page):
        if piece[2] is not None:
            reader.desk.later(seconds=int(piece[2]))
            continue
        for entry in re.split(r"^\$ ", piece[1], flags=re.MULTILINE)[1:]:
            command, *shown = entry.rstrip("\n").split("\n")
            printed = reader.type(command)
            for known, lines in ((reader.shown, shown), (reader.ids, printed)):
                known += [each for each in dict.fromkeys(ID.findall("\n".join(lines))) if each not in known]
            yield command, shown, printed


def test_every_command_of_the_page_prints_what_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order; and there is no command without an example."""
    monkeypatch.chdir(tmp_path)
    reader = Reader(tmp_path)
    for command, shown, printed in read(PAGE.read_text("utf-8"), reader):
        assert alike(printed, command, reader.ids) == alike(shown, command, reader.shown), command
    commands: Any = cli.commands
    all_of_them = {
        (name, *inner) for name, each in commands.items() for inner in ([(n,) for n in getattr(each, "commands", ())] or [()])
    }  # fmt: skip
    typed = {words[: 2 if hasattr(commands[words[0]], "commands") else 1] for words in reader.commands}
    assert all_of_them - {(*each, "list") if each == ("pools",) else each for each in typed} == set()


def write() -> None:
    """Write down what the commands print now."""
    page = PAGE.read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        reader = Reader(Path(folder))
        printed = iter([(reader.known(command), lines) for command, _, lines in read(page, reader)])

    def block(piece: re.Match[str]) -> str:
        if piece[2] is not None:
            return piece[0]
        parts = []
        for entry in re.split(r"^\$ ", piece[1], flags=re.MULTILINE)[1:]:
            command, lines = next(printed)
            assert entry[:20] == command[:20]
            parts.append("\n".join([f"$ {command}", *lines]).rstrip().replace(folder, "/srv/shop") + "\n")
        return "```console\n" + "".join(parts) + "```"

    PAGE.write_text(PIECES.sub(block, page), "utf-8")


if __name__ == "__main__":
    write()
