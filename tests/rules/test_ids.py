"""Job ids: text from which the row is found, in order of acceptance."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.ids import SystemNonces, format_id, parse_id

LAWS = settings(max_examples=200, deadline=None, derandomize=True, database=None)
seqs = st.integers(min_value=0, max_value=(1 << 63) - 1)
nonces = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)


@LAWS
@given(seq=seqs, nonce=nonces)
def test_an_id_gives_back_its_row_and_its_nonce(seq: int, nonce: int) -> None:
    """parse_id undoes format_id, and every id has the same 32 digits' length."""
    job_id = format_id(seq, nonce)
    assert len(job_id) == 32
    assert parse_id(job_id) == (seq, nonce)


@LAWS
@given(first=seqs, second=seqs, a=nonces, b=nonces)
def test_ids_sort_in_order_of_acceptance(first: int, second: int, a: int, b: int) -> None:
    """Whatever the nonces are, ids sort as their sequence numbers do."""
    if first != second:
        assert (format_id(first, a) < format_id(second, b)) == (first < second)


@LAWS
@given(text=st.one_of(st.text(), st.from_regex(r"[0-9a-fA-F]{30,34}\s?", fullmatch=True)))
def test_whatever_parses_is_the_id_it_parses_to(text: str) -> None:
    """Any text is either refused, or the one spelling of the id it stands for."""
    parsed = parse_id(text)
    assert parsed is None or format_id(*parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "0", "0" * 31, "0" * 33, "8" + "0" * 31, "f" * 32, "0" * 31 + "g", "0" * 31 + "A", "0" * 32 + "\n",
        " " + "0" * 31, "+" + "0" * 31, "0x" + "0" * 30, "٠" * 32, "0" * 16 + "_" + "0" * 15, "\ud800" * 32,
        "0" * 32 + "\0", "00000000-0000-0000-0000-000000000000",
    ],
)  # fmt: skip
def test_anything_but_an_id_is_refused_without_raising(text: str) -> None:
    """Near misses (other digits, case, length, space around, a sign) are no ids."""
    assert parse_id(text) is None


def test_nonces_of_the_system_are_signed_64_bit_and_do_not_repeat() -> None:
    """More nonces than one draw of the operating system gives are all distinct and fit the column."""
    draw = SystemNonces()
    drawn = [draw() for _ in range(1_500)]
    assert len(set(drawn)) == len(drawn)
    assert all(-(1 << 63) <= nonce < 1 << 63 for nonce in drawn)
    assert min(drawn) < 0 < max(drawn)
