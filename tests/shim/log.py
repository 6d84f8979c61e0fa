"""The shim's log: every change of a folder's files, in the order in which it took effect."""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final, NamedTuple

_HEAD: Final = struct.Struct("<BBHIq")


class Kind(Enum):
    """What happened to a file."""

    CREATE = "C"
    WRITE = "W"
    TRUNCATE = "T"  # to the length `offset`
    SYNC = "S"
    SYNC_FAILED = "F"
    UNLINK = "U"


class Event(NamedTuple):
    """One change. The folder itself is named "."."""

    kind: Kind
    name: str
    offset: int = 0
    data: bytes = b""


def read(raw: bytes) -> list[Event]:
    """Return the events of a log. Raises ValueError for one that was cut short."""
    events = []
    at = 0
    while at < len(raw):
        if at + _HEAD.size > len(raw):
            msg = "the log ends in the middle of a record"
            raise ValueError(msg)
        kind, name_length, _, length, offset = _HEAD.unpack_from(raw, at)
        name_at = at + _HEAD.size
        data_at = name_at + name_length
        at = data_at + length
        if at > len(raw):
            msg = "the log ends in the middle of a record"
            raise ValueError(msg)
        events.append(Event(Kind(chr(kind)), raw[name_at:data_at].decode(), offset, raw[data_at:at]))
    return events
