"""Values at rest: one version byte, then msgpack.

null, bool, int64, float, str, bytes, list, map with str keys, timestamp.  No pickle, no type tags, no extension
hooks: bytes read back can only become plain values (checklist point 11).  Bytes at rest are not trusted.
"""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import msgpack

from actor_scheduler.errors import InvalidArgs, LimitExceeded
from actor_scheduler.limits import ARGS_BYTES_MAX, DEPTH_MAX, ITEMS_MAX, RESULT_BYTES_MAX

VERSION: Final = b"\x01"
_SAFE: Final = frozenset({str, bool, bytes, type(None)})  # leaves that always encode
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1
_EXTRACT_CHARS: Final = 1_000


def _plain(value: object) -> object:
    """Return a codec value for a well-known type that pydantic can read back from it."""
    match value:
        case UUID() | Decimal() | PurePath():
            return str(value)
        case datetime() | date() | time():  # an aware datetime never comes here: msgpack writes it as a timestamp
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case set() | frozenset():
            return list(value)
        case enum.Enum():
            return value.value
        case _:
            msg = f"a {type(value).__name__} can't be stored; pass plain values (an id, a str, a number) instead"
            raise InvalidArgs(msg)


class _PerThread(threading.local):
    """A packer of each thread's own: the loop and the writer encode at the same time."""

    def __init__(self) -> None:
        self.packer = msgpack.Packer(default=_plain, datetime=True, use_bin_type=True)


_mine = _PerThread()


def _is_simple(key: object, item: object) -> bool:
    kind = type(item)
    return type(key) is str and (kind in _SAFE or (kind is int and _INT_MIN <= item <= _INT_MAX))  # type: ignore[operator]


def _check_leaf(item: object) -> None:
    if isinstance(item, float):
        if not math.isfinite(item):
            msg = f"{item} can't be stored: NaN and infinity have no equal on the way back"
            raise InvalidArgs(msg)
    elif isinstance(item, int) and not _INT_MIN <= item <= _INT_MAX:
        msg = "an integer over 64 bits can't be stored: pass it as a str"
        raise InvalidArgs(msg)


def _check_keys(item: Mapping[Any, Any]) -> None:
    for key in item:
        if not isinstance(key, str):
            msg = f"only str can be a key of a stored map, not {type(key).__name__}"
            raise InvalidArgs(msg)


def _check_shape(value: object) -> None:
    """Refuse what would not come back as it went in, or would cost too much to walk."""
    if type(value) is dict and len(value) < ITEMS_MAX and all(map(_is_simple, value, value.values())):
        return  # arguments as most calls have them
    left = ITEMS_MAX
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX + 1):
        inner: list[Any] = []
        for item in level:
            if type(item) in _SAFE:
                continue
            if isinstance(item, Mapping):
                _check_keys(item)
                inner.extend(item.values())
            elif isinstance(item, list | tuple | set | frozenset):
                inner.extend(item)
            elif isinstance(item, enum.Enum):
                inner.append(item.value)  # what is stored of it
            else:
                _check_leaf(item)
        left -= len(inner)
        if left < 0:
            msg = f"a value holds over {ITEMS_MAX} items: store it in a table and pass its id"
            raise LimitExceeded(msg)
        if not inner:
            return
        level = inner
    msg = f"a value is nested over {DEPTH_MAX} deep"
    raise LimitExceeded(msg)


def encode(value: object, *, bytes_max: int = ARGS_BYTES_MAX) -> bytes:
    """Return the bytes of a value.

    Raises InvalidArgs for what has no place in the codec (the message names the type), LimitExceeded for a value
    too deep, with too many items, or over `bytes_max` bytes.
    """
    _check_shape(value)
    packer = _mine.packer
    try:
        packed: bytes = packer.pack(value)
    except InvalidArgs:
        packer.reset()
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        packer.reset()
        msg = f"can't be stored: {error}"
        raise InvalidArgs(msg) from error
    if len(packed) >= bytes_max:
        msg = f"encoded to {len(packed)} bytes, over the limit of {bytes_max}: store it in a table and pass its id"
        raise LimitExceeded(msg)
    return VERSION + packed


def decode(data: bytes) -> Any:
    """Return the value of bytes at rest.

    Raises InvalidArgs for an unknown version, damaged bytes, or a value past a limit; never anything else.
    """
    if data[:1] != VERSION:
        msg = f"unknown codec version {data[:1].hex() or 'none'}: written by a newer release, or damaged"
        raise InvalidArgs(msg)
    try:
        value = msgpack.unpackb(data[1:], timestamp=3, strict_map_key=True, raw=False, ext_hook=_no_extension)
        _check_shape(value)
    except InvalidArgs:
        raise
    except (ValueError, OverflowError, RecursionError) as error:
        msg = f"stored bytes don't decode: {error}"
        raise InvalidArgs(msg) from error
    return value


def _no_extension(code: int, _data: bytes) -> object:
    msg = f"stored bytes hold extension type {code}; this codec has none"
    raise InvalidArgs(msg)


def encode_result(value: object) -> tuple[bytes | None, bool]:
    """Return the bytes of a function's result, and whether they are only an extract. Never raises.

    None is stored as no bytes.  What has no place in the codec, or is over RESULT_BYTES_MAX, becomes the first
    characters of its `repr`: the outcome of a job never depends on whether its result can be kept.
    """
    if value is None:
        return None, False
    try:
        return encode(value, bytes_max=RESULT_BYTES_MAX), False
    except Exception:  # a result's own methods may do anything
        _mine.packer.reset()
    try:
        text = repr(value)[:_EXTRACT_CHARS]
    except Exception:  # the same
        text = f"<{type(value).__name__}>"
    return encode(text.encode("utf-8", "replace").decode()), True
