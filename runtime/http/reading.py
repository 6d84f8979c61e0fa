"""What comes in: bodies, counted while they stream, and JSON that means one thing only."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect

from runtime.http.answers import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

DEPTH_MAX: Final = 64
ITEMS_MAX: Final = 100_000
_INT_DIGITS_MAX: Final = 20  # a sign, and 19 digits
_INT64: Final = range(-(1 << 63), 1 << 63)
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)  # linear: each byte is looked at once


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """Return the whole body, of at most this many bytes. What Content-Length claims is not relied on.

    Raises Problem: 413 as soon as it is too large, 408 when it takes too long.
    """
    claimed = request.headers.get("content-length", "0")
    if claimed.isascii() and claimed.isdigit() and (len(claimed) > len(str(most)) or int(claimed) > most):
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise _too_large(most)
                parts.append(part)
    except TimeoutError:
        raise Problem(408, "SLOW_BODY", f"the body took longer than {seconds:g} s", headers=_CLOSE) from None
    except ClientDisconnect:
        raise Problem(400, "BAD_JSON", "the body ended too early") from None
    return b"".join(parts)


_CLOSE: Final = {"Connection": "close"}


def _too_large(most: int) -> Problem:
    return Problem(413, "BODY_TOO_LARGE", f"a body may have at most {most} bytes", headers=_CLOSE)


def parse_json(data: bytes) -> Any:
    """Return what a JSON text means. Raises Problem (400) where two readers could take it to mean two things.

    That is: duplicate keys, NaN and Infinity, numbers too large for 64 bits or a float, lone surrogates, other
    encodings than UTF-8; and nesting of over 64 levels or over 100,000 values.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise bad_json("it is not UTF-8") from None
    _check_shape(data)
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_int, parse_float=_float
        )
    except json.JSONDecodeError as error:
        raise bad_json(f"{error.msg} at character {error.pos}") from None
    if b"\\u" in data:
        _check_text(value)
    return value


def bad_json(why: str) -> Problem:
    """Return the answer to a body that can't be taken."""
    return Problem(400, "BAD_JSON", f"the body is not JSON that can be taken: {why}")


def _check_shape(data: bytes) -> None:
    """Refuse, before anything is built, what is nested too deeply or has too many values."""
    bare = _STRINGS.sub(b"", data)
    if bare.count(b",") + bare.count(b":") >= ITEMS_MAX:
        raise bad_json(f"it has more than {ITEMS_MAX} values")
    depth = 0
    for byte in re.findall(rb"[\[\]{}]", bare):
        depth += 1 if byte in b"[{" else -1
        if depth > DEPTH_MAX:
            raise bad_json(f"it is nested more than {DEPTH_MAX} levels deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise bad_json("an object has the same key twice")
    return found


def _constant(name: str) -> Any:
    raise bad_json(f"{name} is no number of JSON")


def _int(digits: str) -> int:
    if len(digits) > _INT_DIGITS_MAX or (number := int(digits)) not in _INT64:
        raise bad_json("a whole number does not fit 64 bits")
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise bad_json("a number is too large for a float")
    return number


def _check_text(value: Any) -> None:
    """Refuse lone surrogates, in keys too."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            if not each.isascii() and any("\ud800" <= character <= "\udfff" for character in each):
                raise bad_json("a text has a lone surrogate")
        elif isinstance(each, dict):
            left += each
            left += each.values()
        elif isinstance(each, list):
            left += each
