"""Nothing that stands in a job makes a terminal do anything but print."""

from __future__ import annotations

import json
import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from runtime.cli.text import document, safe, short, shown
from tests.http.hostile import CORPUS

ANY = st.text() | st.sampled_from(CORPUS) | st.text(st.sampled_from("\x1b[]m;\\\u202e\u0301\x9b\r\nab"), max_size=40)
HARMFUL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY, inner, max_size=4),
    max_leaves=12,
)


def prints_only(text: str) -> bool:
    return not {unicodedata.category(char) for char in text} & HARMFUL and text.isprintable()


@given(ANY)
def test_safe_text_is_one_line_that_only_prints(text: str) -> None:
    """No C0, C1, bidirectional override, zero width, separator or surrogate is left, whatever came in."""
    assert prints_only(safe(text))


@given(ANY)
def test_safe_text_can_be_written_to_any_stream(text: str) -> None:
    """It is Unicode that UTF-8 carries: lone surrogates are escaped."""
    safe(text).encode("utf-8")


@given(ANY)
def test_what_only_prints_is_not_changed(text: str) -> None:
    """Making safe twice is making safe once, and plain text passes as it is."""
    assert safe(safe(text)) == safe(text)
    if text.isascii() and text.isprintable():
        assert safe(text) == text


@given(VALUES)
def test_every_value_of_a_document_is_shown_in_one_safe_line(value: object) -> None:
    """Also keys inside objects, and text inside lists."""
    assert prints_only(shown(value))


@given(VALUES)
def test_a_document_for_programs_is_printable_ascii_and_reads_back(value: object) -> None:
    """One line, so that one line is one document."""
    line = document(value)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == value


@given(ANY)
def test_markup_of_the_terminal_library_means_nothing(text: str) -> None:
    """As text of a cell, brackets are brackets."""
    console = Console(file=StringIO(), force_terminal=True, width=10**7, markup=False, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(Text(safe(text)), soft_wrap=True)
    assert capture.get() == safe(text) + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("\U000e0067", "\\U000e0067"),
        ("Zoë, 東京, 🎉", "Zoë, 東京, 🎉"),
        ("e\u0301", "e\u0301"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
    ],
)
def test_examples(text: str, said: str) -> None:
    """What stands in a terminal instead."""
    assert safe(text) == said


def test_marks_that_pile_up_are_escaped() -> None:
    """Four on one letter are a language's; forty are drawn over the lines above."""
    assert safe("e" + "\u0301" * 4) == "e" + "\u0301" * 4
    assert safe("e" + "\u0301" * 40).count("\u0301") == 4


@given(ANY, st.integers(1, 30))
def test_a_short_text_is_short(text: str, most: int) -> None:
    """And is what it was, where it was short."""
    cut = short(text, most)
    assert len(cut) <= most
    assert cut == text or cut == text[: most - 1] + "…"
