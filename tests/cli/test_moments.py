"""How an operator reads times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli.moments import brief, moment, parsed, relative, size, span

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0s"), (0.4, "0.4s"), (0.0015, "0.002s"), (1, "1s"), (59.9, "59s"), (60, "1m"), (61, "1m 1s"),
     (3600, "1h"), (3601, "1h"), (3660, "1h 1m"), (93_600, "1d 2h"), (-61, "1m 1s")],
)  # fmt: skip
def test_spans(seconds: float, said: str) -> None:
    """The two largest units; the second is left out where it is nothing."""
    assert span(seconds) == said


@given(st.floats(1, 1e9))
def test_a_span_says_what_it_is_within_its_smallest_unit(seconds: float) -> None:
    """Nothing is said that is longer than it is, and at most a unit is lost."""
    sizes = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
    parts = span(seconds).split()
    said = sum(int(part[:-1]) * sizes[part[-1]] for part in parts)
    lost = 0 <= seconds - said
    assert lost
    assert seconds - said < max(sizes[parts[-1][-1]], {"d": 3600, "h": 60, "m": 1, "s": 1}[parts[0][-1]])


def test_moments_stand_in_utc_and_to_now() -> None:
    """Whatever offset they are said with."""
    assert moment("2026-01-01T12:05:00.000000Z", NOW) == "2026-01-01 12:05:00Z (in 5m)"
    assert moment("2026-01-01T12:00:00+01:00", NOW) == "2026-01-01 11:00:00Z (1h ago)"
    assert relative(NOW + timedelta(milliseconds=400), NOW) == "now"
    assert moment(None, NOW) == "-"
    assert brief("2026-01-01T12:05:00Z", NOW) == "12:05:00Z (in 5m)"
    assert brief("2025-12-31T23:59:59Z", NOW) == "2025-12-31 23:59:59Z (12h ago)"
    assert brief(None, NOW) == "-"


@given(st.text() | st.integers() | st.none())
def test_what_is_no_moment_is_none(said: object) -> None:
    """A document may say anything."""
    found = parsed(said)
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(("count", "said"), [(0, "0 B"), (1023, "1023 B"), (2048, "2.0 KiB"), (5 << 30, "5.0 GiB")])
def test_sizes(count: int, said: str) -> None:
    """In units that a person compares."""
    assert size(count) == said
