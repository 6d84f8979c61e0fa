"""What is given on the command line, read strictly: JSON, files, and moments and spans that the app reads itself."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

from runtime.cli.trouble import MISSING, REFUSED, USAGE, Trouble
from runtime.http.answers import Problem
from runtime.http.reading import parse_json


def read_json(given: str, what: str) -> Any:
    """Return the JSON that was given: as text, as @file, or as - for standard input. Raises Trouble."""
    try:
        if given == "-":
            data = sys.stdin.buffer.read()
        elif given.startswith("@"):
            data = Path(given[1:]).read_bytes()
        else:
            data = given.encode()
    except (OSError, UnicodeError, ValueError) as error:
        raise Trouble(USAGE, f"{what} can't be read: {error}") from None
    try:
        return parse_json(data)
    except Problem as problem:
        told = problem.message.partition(": ")[2] or problem.message
        raise Trouble(USAGE, f"{what} can't be read as JSON: {told}") from None


def read_object(given: str | None, what: str) -> dict[str, Any]:
    """Return the JSON object that was given; nothing is an empty one. Raises Trouble."""
    found = {} if given is None else read_json(given, what)
    if not isinstance(found, dict):
        raise Trouble(USAGE, f'{what} must be a JSON object, such as {{"id": 7}}')
    return found


def check_there(path: Path) -> None:
    """Refuse a file that does not exist. Raises Trouble."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise Trouble(MISSING, f"there is no file {path}") from None
    except OSError as error:
        raise Trouble(REFUSED, f"{path} can't be opened: {error.strerror}") from None


def number_or_text(given: str) -> int | float | str:
    """Return a number where a number was given, else the text as it is: "5m" and dates are the app's to read."""
    text = given.strip()
    try:
        return int(text) if text.isascii() and "_" not in text else text
    except ValueError:
        pass
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        return text
    return number if math.isfinite(number) else text
