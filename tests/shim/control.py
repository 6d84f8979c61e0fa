"""The shim, from inside a process that it is loaded into."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final

from tests.shim.build import build

ROOT: Final = Path(__file__).resolve().parents[2]


class Calls(IntEnum):
    """The classes of calls that can be made to fail, as shim.c numbers them."""

    WRITE = 0
    SYNC = 1
    TRUNCATE = 2
    OPEN = 3
    UNLINK = 4


def environment() -> dict[str, str]:
    """Return an environment in which a new process has the shim. Raises NoShim when it can't be built."""
    return {**os.environ, "LD_PRELOAD": str(build())}


def run_again_with_shim(module: str, argv: Sequence[str]) -> None:
    """Return at once in a process that has the shim; otherwise become `python -m module` with it."""
    if not loaded():
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-m", module, *argv], environment())


def loaded() -> bool:
    """Whether this process has the shim."""
    return hasattr(_process(), "shim_watch")


def watch(folder: Path, log: Path | None = None) -> None:
    """Watch the files of a folder that are opened from now on, and log their changes."""
    _process().shim_watch(os.fsencode(folder), None if log is None else os.fsencode(log))


def fail(calls: Calls, nth: int, error: int, *, for_ever: bool = False) -> None:
    """Let the n-th call from now on fail, once or for ever. Starts counting anew."""
    _process().shim_fail(int(calls), ctypes.c_long(nth), error, int(for_ever))


def spare(names: Iterable[str]) -> None:
    """Never fail these files, and don't count their calls."""
    _process().shim_spare(f" {' '.join(names)} ".encode())


def count_anew() -> None:
    """Fail nothing, and count from here."""
    _process().shim_fail(-1, ctypes.c_long(0), 0, 0)


def heal() -> None:
    """Let everything succeed again."""
    _process().shim_heal()


def count(calls: Calls) -> int:
    """Return how many calls of a class there were since the counting began."""
    return int(_process().shim_count(int(calls)))


def fired() -> int:
    """Return how many calls were failed."""
    return int(_process().shim_fired())


def hold_syncs(*, wait: bool) -> int:
    """Make syncs wait, or let them go; return how many were waiting."""
    return int(_process().shim_hold(int(wait)))


def _process() -> ctypes.CDLL:
    return ctypes.CDLL(None)
