"""Children, as the parent sees them: started, listened to, killed, and reaped."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from typing_extensions import Self

from tests.crash.plan import Plan

ROOT: Final = Path(__file__).resolve().parents[2]
_SILENCE_SECONDS: Final = 60.0  # a child that says nothing for this long hangs: killed, and reported as such


@dataclass(frozen=True, slots=True)
class Ended:
    """How a life ended, and what it told."""

    events: Sequence[Sequence[Any]]
    signal: int  # 0: it ended by itself
    status: int
    hung: bool = False

    @property
    def killed(self) -> bool:
        """Whether it died of SIGKILL."""
        return self.signal == signal.SIGKILL and not self.hung


class Nursery:
    """A process that has everything imported, and forks one child at a time."""

    def __init__(self, log: Path, module: str = "tests.crash.child") -> None:
        self._log_path = log
        self._module = module
        self._log: IO[bytes] | None = None
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self._log = self._log_path.open("ab")
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, "--nursery", str(theirs.fileno())],
                cwd=ROOT, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=self._log,
            )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End it; a child that still runs is killed by it."""
        assert self._control is not None
        assert self._process is not None
        assert self._log is not None
        self._control.close()
        self._process.wait()
        self._log.close()

    def live(self, plan: Path, kill_after: int | None = None) -> Ended:
        """Run one life to its end, killing it once it has written `kill_after` lines."""
        pid, ours = self.begin(plan)
        with open(ours, "rb", buffering=0) as out:
            events, hung = _listen(out.fileno(), pid, kill_after)
        wait_status = self.reap()
        died = os.WTERMSIG(wait_status) if os.WIFSIGNALED(wait_status) else 0
        return Ended(events, died, os.waitstatus_to_exitcode(wait_status), hung)

    def begin(self, plan: Path) -> tuple[int, int]:
        """Start a life; return its pid, which stays its own until it is reaped, and where it can be listened to."""
        assert self._control is not None
        ours, theirs = os.pipe()
        try:
            socket.send_fds(self._control, [os.fsencode(plan)], [theirs])
        finally:
            os.close(theirs)
        return int(self._line()), ours

    def reap(self) -> int:
        """Wait for the end of the life, and return its wait status."""
        assert self._control is not None
        self._control.sendall(b".")
        return int(self._line())

    def _line(self) -> bytes:
        assert self._control is not None
        line = b""
        while not line.endswith(b"\n"):
            more = self._control.recv(64)
            if not more:
                said = self._log_path.read_text(encoding="utf-8", errors="replace")[-2_000:]
                msg = f"the nursery died, having said: {said}"
                raise RuntimeError(msg)
            line += more
        return line


def _listen(fd: int, pid: int, kill_after: int | None) -> tuple[list[Any], bool]:
    """Read lines until the child has ended; its last one may be cut short."""
    events: list[Any] = []
    rest = b""
    hung = False
    while True:
        if not select.select([fd], [], [], _SILENCE_SECONDS)[0]:
            hung = True
            os.kill(pid, signal.SIGKILL)  # not reaped before we ask for it, so the pid is still its own
        block = os.read(fd, 1 << 16)
        if not block:
            return events, hung
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            events.append(json.loads(line))
            if len(events) == kill_after:
                os.kill(pid, signal.SIGKILL)


def live_once(plan: Plan, folder: Path) -> Ended:
    """Run one life in a process of its own, started as a user would."""
    command = [sys.executable, "-m", "tests.crash.child", plan.db, "--plan", str(plan.save(folder / "plan.json"))]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
    lines = done.stdout.split(b"\n")[:-1]
    died = -done.returncode if done.returncode < 0 else 0
    return Ended([json.loads(line) for line in lines], died, done.returncode)


def clean(folder: Path) -> None:
    """Remove a folder's database files."""
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
