"""Definitions at rest: what is read back is what was written, or it is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor_scheduler import codec
from actor_scheduler.crons.catchup import CatchUp
from actor_scheduler.crons.schedule import Cron, Every
from actor_scheduler.crons.spec import CronSpec, RunNote, digest
from actor_scheduler.errors import InvalidArgs, InvalidCron, UnknownZone
from actor_scheduler.times import to_datetime

SPEC = CronSpec("digest", Cron("0 8 * * *", tz="Europe/Paris"), "d:send", "action", codec.encode({"kind": "x"}))


def _encoded(value: object) -> bytes:
    try:
        return codec.encode(value)
    except InvalidArgs:
        return b""


specs = st.builds(
    CronSpec,
    name=st.text("abc/", min_size=1, max_size=8),
    schedule=st.sampled_from([Cron("0 8 * * *"), Cron("@daily", tz="Asia/Tokyo"), Every(seconds=1), Every(hours=36)]),
    path=st.sampled_from(["a:b", "c.d:e"]),
    kind=st.sampled_from(["mutation", "action"]),
    args=st.dictionaries(st.text(max_size=3), st.integers(-9, 9), max_size=3).map(codec.encode),
    rule=st.builds(
        CatchUp,
        st.sampled_from(["latest", "all", "skip"]),
        st.integers(1, 1000),
        st.none() | st.integers(1, 10**15),
        st.sampled_from(["skip", "queue", "allow"]),
    ),
    jitter_us=st.integers(0, 10**10),
    clock=st.sampled_from(["internal", "external"]),
    enabled=st.booleans(),
    description=st.text(max_size=20),
)


@given(specs)
def test_what_is_read_back_is_what_was_written(spec: CronSpec) -> None:
    """Every field, and equal definitions are equal bytes."""
    assert CronSpec.decode(spec.name, spec.encode()) == spec
    assert spec._replace().encode() == spec.encode()


@given(specs, st.data())
def test_damaged_bytes_are_refused_or_are_a_whole_definition(spec: CronSpec, data: st.DataObject) -> None:
    """Whatever byte is another one: an InvalidCron, or a definition that a start could have made."""
    kept = bytearray(spec.encode())
    at = data.draw(st.integers(0, len(kept) - 1))
    kept[at] = data.draw(st.integers(0, 255))
    try:
        read = CronSpec.decode(spec.name, bytes(kept))
    except InvalidCron:
        return
    assert 1 <= read.rule.max_ticks <= 1000
    assert read.kind in ("mutation", "action")


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": CatchUp("never", 5, None, "skip")}, {"rule": CatchUp("all", 10**9, None, "skip")},
        {"rule": CatchUp("all", 5, "x", "skip")}, {"rule": CatchUp("all", 5, None, "some")}, {"jitter_us": -1},
        {"jitter_us": "z"}, {"clock": 3}, {"enabled": 1}, {"path": b"a:b"}, {"kind": "query"}, {"description": None},
    ],
)  # fmt: skip
def test_fields_that_no_definition_has_are_refused(wrong: dict[str, object]) -> None:
    """They would cost without bound, or fail in the middle of a turn."""
    with pytest.raises(InvalidCron, match="damaged"):
        CronSpec.decode("digest", SPEC._replace(**wrong).encode())


def test_another_format_and_an_unknown_zone_say_so() -> None:
    """The name of the cron is in the message."""
    with pytest.raises(InvalidCron, match="'digest' is kept in format 07"):
        CronSpec.decode("digest", b"\x07" + SPEC.encode()[1:])
    with pytest.raises(InvalidCron, match="format none"):
        CronSpec.decode("digest", b"")
    with pytest.raises(UnknownZone, match="digest"):
        CronSpec.decode("digest", SPEC.encode().replace(b"Europe/Paris", b"Europe/Pariz"))


@given(st.lists(specs, unique_by=lambda spec: spec.name, max_size=5), st.randoms())
def test_the_hash_of_a_manifest_does_not_depend_on_order(listed: list[CronSpec], chance: object) -> None:
    """And another definition, or another name, is another hash."""
    shuffled = list(listed)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert digest(shuffled) == digest(listed)
    for spec in listed:
        others = [other for other in listed if other is not spec]
        assert digest(others) != digest(listed)
        assert digest([*others, spec._replace(description=spec.description + "!")]) != digest(listed)
        assert digest([*others, spec._replace(name=spec.name + "!")]) != digest(listed)


@pytest.mark.parametrize("note", [RunNote(), RunNote(3), RunNote(0, (5, 7)), RunNote(2**40, (1, 2))])
def test_a_note_is_read_back(note: RunNote) -> None:
    """An empty one takes no room."""
    assert RunNote.decode(note.encode()) == note
    assert (note.encode() is None) == (note == RunNote())


@given(st.binary(max_size=12) | st.lists(st.integers() | st.text(max_size=2), max_size=4).map(_encoded))
def test_a_damaged_note_never_raises(data: bytes) -> None:
    """A run is not lost for what it would have been told."""
    note = RunNote.decode(data)
    assert all(type(number) is int for number in (note.skipped, *(note.window or ())))
    assert all(to_datetime(moment) for moment in note.window or ())
