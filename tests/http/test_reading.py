"""Bodies: what JSON is taken, what is refused, and that neither takes long."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from runtime.http.answers import Problem
from runtime.http.reading import DEPTH_MAX, ITEMS_MAX, parse_json, read_body

texts = st.text(st.characters(codec="utf-8"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@given(values, st.booleans())
def test_what_any_encoder_writes_is_read_as_it_was_meant(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200))
def test_bytes_are_read_as_json_reads_them_or_refused(data: bytes) -> None:
    try:
        value = parse_json(data)
    except Problem as refused:
        assert (refused.status, refused.code) == (400, "BAD_JSON")
    else:
        assert json.loads(data) == value


@given(st.text(alphabet='[]{}",:\\0123456789eE.-+truefalsn u', max_size=80))
def test_text_that_looks_like_json_is_read_as_json_reads_it_or_refused(text: str) -> None:
    try:
        value = parse_json(text.encode())
    except Problem as refused:
        assert refused.code == "BAD_JSON"
    else:
        assert json.loads(text) == value


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"a": 1, "a": 2}', "twice"),
        (b'[{"b": {"a": 1, "a": 1}}]', "twice"),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"-Infinity", "Infinity"),
        (b"1e999", "too large"),
        (b"9223372036854775808", "64 bits"),
        (b"-9223372036854775809", "64 bits"),
        (b"1" * 100_000, "64 bits"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'["\\ud83d"]', "surrogate"),
        (b"\xff\xfe", "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"[" * (DEPTH_MAX + 1), "deep"),
        (b'{"a":' * 1_000_000, "values"),
        (b"[" * 1_000_000, "deep"),
        (b"[" + b"0," * ITEMS_MAX + b"0]", "values"),
        (b"{", "character"),
        (b"", "character"),
    ],
)
def test_what_two_readers_could_take_for_two_things_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(Problem, match=why) as refused:
        parse_json(data)
    assert (refused.value.status, refused.value.code) == (400, "BAD_JSON")


def test_the_limits_themselves_are_taken() -> None:
    assert parse_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    assert len(parse_json(b"[" + b"0," * (ITEMS_MAX - 1) + b"0]")) == ITEMS_MAX
    assert parse_json('"[[[{{{'.encode() + b"[" * 1000 + b'"')
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(
    "data", [b'"' * 1_000_000, b"\\" * 1_000_000, b'"\\' * 500_000, b'"' + b"\\u0041" * 170_000, b"{}" * 500_000]
)
def test_text_made_to_take_long_is_answered(data: bytes) -> None:
    """Each is read once: were one of them quadratic, this would take minutes."""
    with pytest.raises(Problem):
        parse_json(data)


def request(*parts: bytes, ends: bool = True, **headers: str) -> Request:
    """Return a request whose body comes in parts, and, unless it `ends`, never does."""
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if ends:
        left.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Any:
        if left:
            return left.pop(0)
        return await asyncio.get_running_loop().create_future()

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


@given(parts=st.lists(st.binary(max_size=20), max_size=10), most=st.integers(1, 100))
def test_a_body_is_read_up_to_its_limit_whatever_it_claims(parts: list[bytes], most: int) -> None:
    whole = b"".join(parts)

    async def read() -> bytes:
        return await read_body(request(*parts, content_length="1"), most, 5)

    if len(whole) <= most:
        assert asyncio.run(read()) == whole
    else:
        with pytest.raises(Problem) as refused:
            asyncio.run(read())
        assert refused.value.status == 413


async def test_an_endless_body_is_refused_as_soon_as_it_is_too_large() -> None:
    with pytest.raises(Problem) as refused:
        await read_body(request(b"x" * 50, b"x" * 51, ends=False), 100, 60)
    assert refused.value.status == 413


async def test_a_body_that_claims_too_much_is_not_read_at_all() -> None:
    for claimed in ("101", "9" * 5000):
        with pytest.raises(Problem) as refused:
            await read_body(request(ends=False, content_length=claimed), 100, 60)
        assert refused.value.status == 413


async def test_a_slow_body_is_given_up() -> None:
    with pytest.raises(Problem) as refused:
        await read_body(request(b"{", ends=False), 100, 0.01)
    assert (refused.value.status, refused.value.code) == (408, "SLOW_BODY")


async def test_a_client_that_goes_away_is_no_error_of_ours() -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(Problem) as refused:
        await read_body(Request({"type": "http", "method": "POST", "headers": []}, receive), 100, 1)
    assert refused.value.status == 400
