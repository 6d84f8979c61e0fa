"""The shim itself: what it logs, what it fails, and what is said where it can't be built."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shim import build as builder
from tests.shim.control import ROOT, environment
from tests.shim.log import Event, Kind, read

_CHANGES = """
import os
fd = os.open(folder / "a", os.O_RDWR | os.O_CREAT)
os.write(fd, b"one")
os.write(fd, b"two")
os.pwrite(fd, b"X", 1)
os.ftruncate(fd, 4)
os.fsync(fd)
os.close(fd)
elsewhere = os.open(folder.with_name("b"), os.O_WRONLY | os.O_CREAT)
os.write(elsewhere, b"not watched")
at = os.open(folder, os.O_RDONLY)
os.fsync(at)
os.unlink(folder / "a")
os.close(os.open(folder / "d-shm", os.O_WRONLY | os.O_CREAT))
"""
_FAILS = """
import errno, os
def write():
    try:
        return os.write(fd, b"abcd")
    except OSError as error:
        return errno.errorcode[error.errno]
fd = os.open(folder / "a", os.O_WRONLY | os.O_CREAT)
said = []
for error, for_ever in ((errno.EIO, False), (errno.ENOSPC, True)):
    control.fail(control.Calls.WRITE, 2, error, for_ever=for_ever)
    said.append([write(), write(), write(), control.fired(), control.count(control.Calls.WRITE)])
control.heal()
said.append([write(), os.fstat(fd).st_size])
"""


def _run(body: str, folder: Path) -> list[Event]:
    """Run a few lines in a process that has the shim; `said` goes to the file said.json."""
    folder.mkdir()
    script = (
        "import json, pathlib, sys\nfrom tests.shim import control\nfolder, said = pathlib.Path(sys.argv[1]), []\n"
        f'control.watch(folder, folder.with_name("log"))\n{body}\n'
        'folder.with_name("said.json").write_text(json.dumps(said))\n'
    )
    subprocess.run([sys.executable, "-c", script, str(folder)], cwd=ROOT, env=environment(), check=True)
    return read(folder.with_name("log").read_bytes())


def test_every_change_of_the_folder_is_logged_in_order_and_nothing_else(tmp_path: Path) -> None:
    """Offsets are those in the file, also of plain writes; mapped memory and other folders are left out."""
    assert _run(_CHANGES, tmp_path / "watched") == [
        Event(Kind.CREATE, "a"),
        Event(Kind.WRITE, "a", 0, b"one"),
        Event(Kind.WRITE, "a", 3, b"two"),
        Event(Kind.WRITE, "a", 1, b"X"),
        Event(Kind.TRUNCATE, "a", 4),
        Event(Kind.SYNC, "a"),
        Event(Kind.SYNC, "."),
        Event(Kind.UNLINK, "a"),
    ]


def test_the_nth_call_fails_once_or_for_ever(tmp_path: Path) -> None:
    """An EIO has written half, a full disk nothing; the log has what was really written."""
    log = _run(_FAILS, tmp_path / "watched")
    assert json.loads((tmp_path / "said.json").read_text(encoding="utf-8")) == [
        [4, "EIO", 4, 1, 3],
        [4, "ENOSPC", "ENOSPC", 2, 3],
        [4, 4 + 2 + 4 + 4 + 4],
    ]
    assert [event.data for event in log if event.kind is Kind.WRITE] == [b"abcd", b"ab", b"abcd", b"abcd", b"abcd"]


def test_a_log_that_was_cut_short_is_refused() -> None:
    """Half a record would give half a history."""
    for cut in (b"W", b"W\x01\x00\x00\x04\x00\x00\x00" + bytes(8) + b"a"):
        with pytest.raises(ValueError, match="middle of a record"):
            read(cut)


def test_without_a_compiler_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engines must fail then, not be skipped."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(builder.NoShim, match="apt-get install gcc .* pip install ziglang"):
        builder.compiler()


def test_ziglang_serves_where_no_compiler_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a package of PyPI, so an environment without root can have it."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert builder.compiler() == [sys.executable, "-m", "ziglang", "cc"]
