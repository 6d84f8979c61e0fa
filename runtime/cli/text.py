"""Text that comes from jobs, made safe to print: nothing in it moves a cursor, hides, or turns a line round. Pure."""

from __future__ import annotations

import json
import unicodedata
from typing import Any, Final

_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MARKS_MAX: Final = 4  # on one letter; more are piled over the lines around it


def safe(text: str) -> str:
    """Return text in one line that a terminal only prints, every other character written as an escape.

    Escaped are control characters, ANSI sequences' beginnings, what is invisible or changes the direction of writing,
    line and paragraph separators, lone surrogates, unassigned characters, and marks that pile up on one letter.
    """
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = 0
    for char in text:
        marks = marks + 1 if unicodedata.combining(char) or unicodedata.category(char) in {"Mn", "Me"} else 0
        shown.append(char if char.isprintable() and marks <= _MARKS_MAX else _escape(char))
    return "".join(shown)


def short(text: str, most: int) -> str:
    """Return text of at most `most` characters; what is cut off is marked. Cut before it is made safe, never after."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shown(value: Any) -> str:
    """Return any value of a JSON document in one safe line: text as it is, everything else as JSON."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return safe(value)
    return safe(json.dumps(value, ensure_ascii=False, sort_keys=False))


def document(value: Any) -> str:
    """Return a JSON document in one line of printable ASCII, for programs."""
    return json.dumps(value, ensure_ascii=True, separators=(", ", ": ")).replace("\x7f", "\\u007f")


def _escape(char: str) -> str:
    code = ord(char)
    if char in _SHORT:
        return _SHORT[char]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
