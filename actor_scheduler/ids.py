"""Job ids: text from which the row is found without a second unique index.

An id is 32 hexadecimal digits: the job's sequence number, then a random 64-bit nonce kept in its row.
The sequence number is the row's primary key and is never reused; the nonce makes ids unguessable and tells
a row of this database from one of a restored copy.  Ids sort in order of acceptance.
"""

from __future__ import annotations

import os
import re
from typing import Final, Protocol

_ID: Final = re.compile(r"[0-7][0-9a-f]{31}", re.ASCII)
_U64: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63


class NonceSource(Protocol):
    """Where nonces come from: chance is an argument."""

    def __call__(self) -> int:
        """Return a signed 64-bit number."""
        ...


def format_id(seq: int, nonce: int) -> str:
    """Return the id of the row `seq` whose signed 64-bit nonce is `nonce`."""
    return f"{seq << 64 | nonce & _U64:032x}"


def parse_id(job_id: str) -> tuple[int, int] | None:
    """Return (seq, signed nonce), or None when the text can't be an id of ours."""
    if not _ID.fullmatch(job_id):
        return None
    number = int(job_id, 16)
    nonce = number & _U64
    return number >> 64, nonce - (1 << 64) if nonce & _SIGN else nonce


class SystemNonces:
    """Nonces from the operating system, drawn 512 at a time: one system call for many ids."""

    def __init__(self) -> None:
        self._pool: list[int] = []

    def __call__(self) -> int:
        """Return a random signed 64-bit number."""
        if not self._pool:
            block = memoryview(os.urandom(8 * 512)).cast("q")
            self._pool = block.tolist()
        return self._pool.pop()
