"""Values at rest: what goes in comes out, what could not come out is refused, and nothing else is ever raised."""

from __future__ import annotations

import enum
import math
from collections import UserDict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actor_scheduler.codec import VERSION, decode, encode, encode_result
from actor_scheduler.errors import InvalidArgs, LimitExceeded
from actor_scheduler.limits import ARGS_BYTES_MAX, DEPTH_MAX, ITEMS_MAX, RESULT_BYTES_MAX

LAWS = settings(max_examples=100, deadline=None, derandomize=True, database=None)
INT_MAX = (1 << 63) - 1

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
zones = st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23)).map(timezone)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(1 << 63), max_value=INT_MAX),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.binary(max_size=20),
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=zones),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)
anything = st.recursive(
    st.one_of(
        leaves, st.integers(), st.floats(), st.text(max_size=5), st.complex_numbers(), st.decimals(), st.uuids(),
        st.dates(), st.times(), st.datetimes(), st.timedeltas(), st.binary(max_size=5).map(bytearray),
        st.just(object()), st.just(len), st.just(int),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(texts, st.text(max_size=3), st.integers(), st.none(), st.binary(max_size=2)), inner, max_size=4),
    ),
    max_leaves=15,
)  # fmt: skip


class Color(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Named(str):
    __slots__ = ()


def nest(depth: int) -> list[Any]:
    """Return a list `depth` levels deep."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


# ------------------------------------------------------------------ round trips


@LAWS
@given(value=values)
def test_every_value_of_the_codec_comes_back_equal(value: Any) -> None:
    """Decode undoes encode, types included; an aware datetime comes back as the same instant."""
    back = decode(encode(value))
    assert back == value
    assert repr(back) == repr(value) or "datetime" in repr(value)


@LAWS
@given(value=anything)
def test_whatever_is_accepted_can_be_read_and_stored_again_unchanged(value: Any) -> None:
    """Encode refuses with InvalidArgs, or gives bytes that decode to a value that encodes to the same bytes."""
    try:
        data = encode(value)
    except InvalidArgs:
        return
    back = decode(data)
    assert encode(back) == data
    assert decode(encode(back)) == back


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ((1, (2,)), [1, [2]]), (bytearray(b"x"), b"x"), (Named("n"), "n"), (Number.ONE, 1), (Color.RED, "red"),
        ({Named("k"): True}, {"k": True}), (frozenset({7}), [7]), (set(), []),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"), (Decimal("1.50"), "1.50"),
        (PurePosixPath("/a/b"), "/a/b"), (date(2026, 1, 2), "2026-01-02"), (time(1, 2), "01:02:00"),
        (datetime(2026, 1, 2, 3), "2026-01-02T03:00:00"), (timedelta(milliseconds=1500), 1.5),
        (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 1, 1, tzinfo=UTC)),
        (-0.0, -0.0), (5e-324, 5e-324), (INT_MAX, INT_MAX), (-INT_MAX - 1, -INT_MAX - 1), ("\0é€😀", "\0é€😀"),
    ],
)  # fmt: skip
def test_well_known_types_are_stored_as_the_plain_value_they_stand_for(value: object, stored: object) -> None:
    """Tuples, sets, enums, UUIDs, dates and the like become what pydantic can read back from."""
    back = decode(encode(value))
    assert (back, type(back)) == (stored, type(stored))
    assert math.copysign(1, back) == math.copysign(1, stored) if isinstance(stored, float) else True


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (math.nan, "NaN"), (math.inf, "infinity"), ({"a": [-math.inf]}, "infinity"),
        (INT_MAX + 1, "64"), (-INT_MAX - 2, "64"), ([1 << 64], "64"),
        ({1: 1}, "only str"), ({None: 1}, "only str"), ({b"a": 1}, "only str"), ([{("a",): 1}], "only str"),
        ("\ud800", "surrogates"), ({"\udfff": 1}, "surrogates"), (["ok", "\ud800x"], "surrogates"),
        (object(), "object"), (int, "type"), (len, "builtin"), (iter(()), "iterator"), (1j, "complex"),
        ((n for n in ()), "generator"), (range(3), "range"), (UserDict(a=1), "UserDict"), ([ValueError()], "ValueError"),
    ],
)  # fmt: skip
def test_what_would_not_come_back_is_refused_with_the_reason(value: object, hint: str) -> None:
    """NaN, infinity, wide integers, other keys than str, lone surrogates and foreign types raise InvalidArgs."""
    with pytest.raises(InvalidArgs, match=hint):
        encode(value)
    assert decode(encode([1])) == [1], "the packer is clean again"


def test_nesting_is_bounded_exactly() -> None:
    """DEPTH_MAX levels are stored, one more is refused, and a value that holds itself is refused too."""
    assert decode(encode(nest(DEPTH_MAX + 1))) == nest(DEPTH_MAX + 1)
    for value in (nest(DEPTH_MAX + 2), nest(5_000)):
        with pytest.raises(LimitExceeded, match="deep"):
            encode(value)
    around: list[Any] = []
    around.append(around)
    with pytest.raises(LimitExceeded):
        encode(around)
    around.append({"again": around})
    with pytest.raises(LimitExceeded):
        encode(around)


def test_items_are_bounded_over_all_levels_together() -> None:
    """ITEMS_MAX items are stored, one more is refused, also when no single container is large."""
    assert len(decode(encode([0] * ITEMS_MAX))) == ITEMS_MAX
    half = [0] * (ITEMS_MAX // 2 - 1)
    assert len(decode(encode([half, half]))) == 2
    for value in ([0] * (ITEMS_MAX + 1), [[*half, 0], half], {"a": half, "b": [*half, 0]}):
        with pytest.raises(LimitExceeded, match="items"):
            encode(value)


@pytest.mark.parametrize("bytes_max", [10, 300, ARGS_BYTES_MAX])
def test_size_is_bounded_exactly(bytes_max: int) -> None:
    """The stored bytes, version included, may be as many as the limit says and no more."""
    header = {10: 2, 300: 3, ARGS_BYTES_MAX: 5}[bytes_max]
    fits = b"x" * (bytes_max - 1 - header)
    assert len(encode(fits, bytes_max=bytes_max)) == bytes_max
    with pytest.raises(LimitExceeded, match=f"limit of {bytes_max}"):
        encode(fits + b"x", bytes_max=bytes_max)


# ------------------------------------------------------------------ bytes at rest are not trusted


@LAWS
@given(data=st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda tail: VERSION + tail)))
@example(b"")
@example(VERSION)
@example(VERSION + b"\xc1")
@example(VERSION + b"\xc0\xc0")
@example(VERSION + b"\x91" * 2_000 + b"\xc0")
@example(VERSION + b"\xdd\xff\xff\xff\xff")
@example(VERSION + b"\xc6\xff\xff\xff\xff")
@example(VERSION + b"\xa1\xff")
@example(VERSION + b"\x81\x01\x01")
@example(VERSION + b"\xd4\xff\x00")
@example(VERSION + b"\xc7\x0c\xff" + b"\xff" * 12)
@example(VERSION + b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7)
@example(VERSION + b"\xd4\x05\x00")
def test_any_bytes_give_a_value_or_invalid_args(data: bytes) -> None:
    """Damaged, truncated, hostile or newer bytes never raise anything but InvalidArgs."""
    try:
        value = decode(data)
    except InvalidArgs:
        return
    assert data[:1] == VERSION
    assert value is None or isinstance(value, bool | int | float | str | bytes | list | dict | datetime)


@LAWS
@given(value=values, at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_a_flipped_bit_never_raises_anything_else(value: Any, at: int, bit: int) -> None:
    """One damaged bit anywhere gives another value or InvalidArgs."""
    data = bytearray(encode(value))
    data[at % len(data)] ^= 1 << bit
    try:
        decode(bytes(data))
    except InvalidArgs as error:
        assert str(error)


@pytest.mark.parametrize("version", [b"", b"\x00", b"\x02", b"\xff"])
def test_another_codec_version_is_named(version: bytes) -> None:
    """Bytes of a newer release are refused with their version, not read as something else."""
    with pytest.raises(InvalidArgs, match=version.hex() or "none"):
        decode(version + (b"\xc0" if version else b""))


def test_extensions_are_never_built() -> None:
    """An extension type in stored bytes is refused: bytes only become plain values."""
    with pytest.raises(InvalidArgs, match="extension type 42"):
        decode(VERSION + msgpack.packb(msgpack.ExtType(42, b"x")))


# ------------------------------------------------------------------ results


class Hostile:
    """An object whose own methods fail."""

    def __repr__(self) -> str:
        msg = "no repr"
        raise RuntimeError(msg)


class Unwieldy(str):
    """A str that lies about itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return Unwieldy("x" * 5_000)

    def __len__(self) -> int:
        msg = "no length"
        raise RuntimeError(msg)


def generated() -> Iterator[int]:
    yield 1


HOSTILE = {
    "repr raises": Hostile(),
    "inside a list": [Hostile()],
    "inside a map": {"a": Hostile()},
    "a str that lies": Unwieldy("text"),
    "a generator": generated(),
    "too large": "x" * (RESULT_BYTES_MAX + 1),
    "a lone surrogate": ["\ud800"],
    "too deep": nest(5_000),
    "too many": [0] * (ITEMS_MAX + 1),
    "a class": object,
    "nothing": None,
}


def check_kept(value: Any) -> None:
    """Assert what holds of every result."""
    data, truncated = encode_result(value)
    if data is None:
        assert (value, truncated) == (None, False)
        return
    assert len(data) <= RESULT_BYTES_MAX
    back = decode(data)
    if truncated:
        assert type(back) is str
        assert 0 < len(back) <= 1_000
    else:
        assert data == encode(value)


@LAWS
@given(value=anything)
def test_any_result_is_kept_or_an_extract_is(value: Any) -> None:
    """encode_result never raises: it gives bytes that decode, within the limit, and says when they are an extract."""
    check_kept(value)


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_result_is_kept_or_an_extract_is(what: str) -> None:
    """The same for objects whose own methods raise or lie, and for values past every limit."""
    check_kept(HOSTILE[what])


def test_an_extract_says_what_it_was() -> None:
    """What can't be stored is shown as its repr, or by its type's name when even that fails."""
    assert decode(encode_result({1, "a"} | {object})[0] or b"").startswith("{")
    assert decode(encode_result(Hostile())[0] or b"") == "<Hostile>"
    assert decode(encode_result("x" * RESULT_BYTES_MAX)[0] or b"") == "'" + "x" * 999


# ------------------------------------------------------------------ odd values


class Odd(enum.Enum):
    NAN = math.nan
    MAP = {1: 2}
    DEEP = nest(200)


class Proxy:
    """What an unbound context-local proxy does: even asking what it is raises."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        msg = "working outside of request context"
        raise RuntimeError(msg)


@pytest.mark.parametrize("member", list(Odd), ids=lambda member: member.name)
def test_an_enum_is_stored_only_if_its_value_could_be(member: Odd) -> None:
    """An enum member is refused exactly when its value is."""
    with pytest.raises(InvalidArgs):
        encode(member.value)
    with pytest.raises(InvalidArgs):
        encode(member)


@pytest.mark.parametrize("where", ["value", "key"])
def test_a_huge_integer_is_refused_as_invalid_args(where: str) -> None:
    """An integer of any size is InvalidArgs, as a value and as a key, and only an extract as a result."""
    huge = 10**5_000
    value = huge if where == "value" else {huge: 1}
    assert encode_result(value)[1] is True
    try:
        encode(value)
    except InvalidArgs:
        return
    pytest.fail("accepted")


@pytest.mark.parametrize("what", ["proxy", "key"])
def test_a_result_that_fails_when_looked_at_is_an_extract(what: str) -> None:
    """A result that raises when it is inspected, or when one of its keys is shown, never decides its job's outcome."""
    assert encode_result(Proxy() if what == "proxy" else {Hostile(): 1})[1] is True


def test_bytes_at_rest_with_other_keys_than_str_are_damaged() -> None:
    """A map whose keys are not str is refused when read, as it is when written."""
    with pytest.raises(InvalidArgs):
        decode(VERSION + msgpack.packb({b"a": 1}))


@pytest.mark.parametrize("stored", [math.nan, nest(200)], ids=["nan", "deep"])
def test_bytes_at_rest_past_a_limit_are_refused(stored: Any) -> None:
    """What could not have been written is refused when read: the docstring of decode promises it."""
    with pytest.raises(InvalidArgs):
        decode(VERSION + msgpack.packb(stored))
