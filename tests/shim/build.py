"""Builds the shim with the system's C compiler, or with the one that PyPI's `ziglang` brings along."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("shim.c")
_FLAGS: Final = ("-shared", "-fPIC", "-O2", "-Wall", "-pthread")


class NoShim(Exception):
    """The shim can't be built here; the message says what to install."""


def compiler() -> list[str]:
    """Return the command that compiles C. Raises NoShim when there is none."""
    if not sys.platform.startswith("linux"):
        msg = f"the shim is loaded with LD_PRELOAD and needs Linux, not {sys.platform}: run these tests in a container"
        raise NoShim(msg)
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    msg = (
        "the power cut and I/O error tests need a C compiler, and there is none: install one "
        "(apt-get install gcc libc6-dev), or `python -m pip install ziglang` into this environment"
    )
    raise NoShim(msg)


@cache
def build() -> Path:
    """Return the shared library, compiled unless this source was compiled by this compiler before."""
    command = compiler()
    version = subprocess.run([*command, "--version"], capture_output=True, check=False).stdout
    key = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), repr((command, _FLAGS)).encode(), version])).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"actor-scheduler-shim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        msg = f"{folder} belongs to somebody else: remove it, or set TMPDIR"
        raise NoShim(msg)
    library = folder / f"{key[:32]}.so"
    if not library.exists():
        unfinished = library.with_suffix(f".{os.getpid()}")
        done = subprocess.run(
            [*command, *_FLAGS, "-o", str(unfinished), str(SOURCE)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            msg = f"{' '.join(command)} can't compile {SOURCE.name}; its headers may be missing:\n{done.stderr}"
            raise NoShim(msg)
        unfinished.replace(library)  # at once: another process may be building it too
    return library
