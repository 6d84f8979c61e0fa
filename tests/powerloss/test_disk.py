"""The disk's model: what a cut may and may not leave."""

from __future__ import annotations

import random

import pytest

from tests.powerloss.disk import FOLDER, SECTOR, Cut, Disk
from tests.shim.log import Event, Kind

OLD, NEW = b"o" * 2 * SECTOR, b"n" * 2 * SECTOR


def _disk(*events: Event, lies: bool = False) -> Disk:
    disk = Disk({"f": OLD}, lies=lies)
    for event in events:
        disk.apply(event)
    return disk


def _all(disk: Disk, cut: Cut) -> set[tuple[tuple[str, bytes], ...]]:
    return {tuple(sorted(disk.after(cut, random.Random(seed)).items())) for seed in range(200)}


WRITE = Event(Kind.WRITE, "f", 0, NEW)
SYNC = Event(Kind.SYNC, "f")


@pytest.mark.parametrize("cut", Cut)
def test_what_was_synced_is_there_whatever_the_cut(cut: Cut) -> None:
    """A sync settles all that its file was given before."""
    assert _all(_disk(WRITE, SYNC), cut) == {(("f", NEW),)}
    assert _disk(WRITE, SYNC).settled
    assert not _disk(WRITE).settled


def test_an_unsynced_write_is_there_or_not_or_torn_at_a_sector() -> None:
    """Never torn inside a sector."""
    whole, none = (("f", NEW),), (("f", OLD),)
    mixed = {(("f", NEW[:SECTOR] + OLD[SECTOR:]),), (("f", OLD[:SECTOR] + NEW[SECTOR:]),)}
    assert _all(_disk(WRITE), Cut.KEPT) == {whole}
    assert _all(_disk(WRITE), Cut.DROPPED) == {none}
    assert _all(_disk(WRITE), Cut.REORDERED) == {whole, none}
    assert _all(_disk(WRITE), Cut.TORN) == {whole, none, *mixed}


def test_a_later_write_may_be_there_without_an_earlier_one() -> None:
    """Order is kept by syncs alone; where only the later one arrived, the gap reads as zeros."""
    first, second = Event(Kind.WRITE, "f", len(OLD), b"1" * SECTOR), Event(Kind.WRITE, "f", len(OLD) + SECTOR, b"2")
    left = _all(_disk(first, second), Cut.REORDERED)
    assert (("f", OLD + bytes(SECTOR) + b"2"),) in left
    assert len(left) == 4


def test_lengths_and_names_go_either_way_until_they_are_synced() -> None:
    """A truncation needs its file's sync, a new or removed name the folder's."""
    cut = Event(Kind.TRUNCATE, "f", 3)
    made, gone = Event(Kind.CREATE, "g"), Event(Kind.UNLINK, "f")
    assert _all(_disk(cut), Cut.REORDERED) == {(("f", OLD),), (("f", OLD[:3]),)}
    assert _all(_disk(made, gone), Cut.REORDERED) == {(), (("f", OLD),), (("g", b""),), (("f", OLD), ("g", b""))}
    assert _all(_disk(made, gone, Event(Kind.SYNC, FOLDER)), Cut.REORDERED) == {(("g", b""),)}


def test_a_failed_sync_may_lose_what_the_next_one_does_not_bring_back() -> None:
    """The pages are marked clean: the process reads them still, and the disk never gets them."""
    left = set()
    for seed in range(100):
        disk = Disk({"f": OLD}, seed=seed)
        for event in (WRITE, Event(Kind.SYNC_FAILED, "f"), SYNC):
            disk.apply(event)
        assert disk.read() == {"f": NEW}
        left |= _all(disk, Cut.KEPT)
    assert {(("f", OLD),), (("f", NEW),)} <= left


def test_a_disk_that_lies_settles_nothing() -> None:
    """Planted: syncs that do nothing."""
    assert not _disk(WRITE, SYNC, lies=True).settled
    assert _all(_disk(WRITE, SYNC, lies=True), Cut.DROPPED) == {(("f", OLD),)}
