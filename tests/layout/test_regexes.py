"""Every regular expression of the packages, held against text that was made to make it slow."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.layout.test_layout import PACKAGES, called, sources

SIZE = 100_000
USES = {"compile", "match", "search", "fullmatch", "sub", "findall", "split", "finditer"}

# Which are not for text of strangers, and why.
TRUSTED = {
    r"--[^\n]*|/\*.*?\*/|\s": "of the app's own schema steps, when it starts",
    r"CREATE TABLE (\w+)": "of the library's own schema",
    r"(\d+)[_-].*\.sql": "of the names of the app's own schema files",
}


@cache
def patterns() -> dict[str | bytes, str]:
    """Return every pattern that stands in the source, and where. One that is put together at run time stands in vain."""
    found: dict[str | bytes, str] = {}
    for path, tree in sources(*PACKAGES).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node).startswith("re.") and called(node)[3:] in USES:
                for pattern in written(node.args[0]):
                    found[pattern] = f"{path}:{node.lineno}"
    return found


def written(node: ast.expr) -> list[str | bytes]:
    """Return the pattern that stands in an expression, with a 9 for what is put in; none for a name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "9" for part in node.values)]
    return []


def hostile(pattern: str) -> list[str]:
    """Return long texts of what the pattern itself is made of, and of what ends its hopes at the last character."""
    letters = sorted({*re.findall(r"[A-Za-z0-9]", pattern), *'a0"\\/*()[]{}-:#,.lwhr \n', "\u00e9"})
    texts = [letter * SIZE for letter in letters]
    pairs = ["/*", '"\\', "a.", "0d", "0-", "a-a/", "1/1", "[{", '":', "--", "l0", "*/", "aa.", "a_", "()", "(/"]
    texts += [pair * (SIZE // len(pair)) for pair in pairs]
    return [text + end for text in texts for end in ("", "!", "\n", "\x00")]


def test_there_are_patterns_to_look_at_and_none_is_trusted_in_vain() -> None:
    assert len(patterns()) > 15
    assert set(TRUSTED) <= set(patterns())


@pytest.mark.parametrize("pattern", [pattern for pattern in patterns() if pattern not in TRUSTED], ids=repr)
def test_a_pattern_is_done_with_hostile_text_in_linear_time(pattern: str | bytes) -> None:
    """Were one of them quadratic in a hundred thousand characters, this would take minutes, and all would see it."""
    if isinstance(pattern, bytes):
        binary = re.compile(pattern, re.DOTALL)
        for text in hostile(pattern.decode("latin-1")):
            binary.sub(b"", text.encode())
        return
    made = re.compile(pattern, re.DOTALL)
    for text in hostile(pattern):
        made.fullmatch(text)
        made.match(text)
