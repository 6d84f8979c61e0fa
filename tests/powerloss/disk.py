"""What a disk may hold after a power cut: rebuilt from the shim's log, by the rules that file systems really give.

What was synced is kept.  Of everything since, any part may be there: each write whole, not at all, or torn at sectors;
each change of length, and each file made or removed, either way.  After a sync that failed, what it was to write may
be gone for ever, though the process still reads it and the next sync succeeds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from tests.shim.log import Event, Kind

SECTOR: Final = 512
FOLDER: Final = "."

Image: TypeAlias = dict[str, bytes]


class Cut(StrEnum):
    """What a power cut does to the changes that were not synced."""

    KEPT = "kept"
    DROPPED = "dropped"
    REORDERED = "reordered"  # any subset of them is there
    TORN = "torn"  # any sectors of any subset are


@dataclass(slots=True)
class _File:
    """One file, whatever its name: what is safely on the disk, what came after, and what the process reads."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)
    cached: bytearray = field(default_factory=bytearray)


class Disk:
    """A folder, followed through a log. With `lies` no sync does anything, as on a disk that only says so."""

    def __init__(self, image: Mapping[str, bytes], *, seed: int = 0, lies: bool = False) -> None:
        self._lies = lies
        self._lost = random.Random(f"lost {seed}")  # what failed syncs lose is decided once, when they fail
        self._files = {name: _File(bytearray(data), [], bytearray(data)) for name, data in image.items()}
        self._durable_names = dict(self._files)
        self._renames: list[tuple[str, _File | None]] = []  # made or removed since the folder was synced

    @property
    def settled(self) -> bool:
        """Whether everything is synced, so that all cuts give the same."""
        if self._renames:
            return False
        return not any(file.pending for file in self._files.values())

    def apply(self, event: Event) -> None:
        """Follow the next event."""
        match event.kind:
            case Kind.CREATE:
                self._files[event.name] = file = _File()
                self._renames.append((event.name, file))
            case Kind.UNLINK:
                del self._files[event.name]
                self._renames.append((event.name, None))
            case Kind.WRITE | Kind.TRUNCATE:
                file = self._files[event.name]
                file.pending.append(event)
                _change(file.cached, event)
            case Kind.SYNC if self._lies:
                return
            case Kind.SYNC if event.name == FOLDER:
                self._durable_names = dict(self._files)
                self._renames.clear()
            case Kind.SYNC:
                self._settle(self._files[event.name], self._files[event.name].pending)
            case Kind.SYNC_FAILED if event.name != FOLDER:
                file = self._files[event.name]
                self._settle(file, list(_survivors(file.pending, Cut.TORN, self._lost)))

    def _settle(self, file: _File, events: list[Event]) -> None:
        for event in events:
            _change(file.durable, event)
        file.pending = []

    def after(self, cut: Cut, rng: random.Random) -> Image:
        """Return what the disk holds when the power is cut now."""
        names = dict(self._durable_names)
        for name, entry in self._renames:
            if cut is Cut.KEPT or (cut is not Cut.DROPPED and rng.random() < 0.5):
                if entry is None:
                    names.pop(name, None)
                else:
                    names[name] = entry
        image = {}
        for name, file in names.items():
            data = bytearray(file.durable)
            for event in _survivors(file.pending, cut, rng):
                _change(data, event)
            image[name] = bytes(data)
        return image

    def read(self) -> Image:
        """Return what the process reads now."""
        return {name: bytes(file.cached) for name, file in self._files.items()}


def _survivors(pending: list[Event], cut: Cut, rng: random.Random) -> Iterator[Event]:
    if cut is Cut.DROPPED:
        return
    for event in pending:
        if cut is Cut.KEPT:
            yield event
        elif cut is Cut.TORN and event.kind is Kind.WRITE:
            yield from (part for part in _sectors(event) if rng.random() < 0.5)
        elif rng.random() < 0.5:
            yield event


def _sectors(event: Event) -> Iterator[Event]:
    """Yield a write in parts that never cross a sector's boundary."""
    at = 0
    while at < len(event.data):
        length = SECTOR - (event.offset + at) % SECTOR
        yield event._replace(offset=event.offset + at, data=event.data[at : at + length])
        at += length


def _change(data: bytearray, event: Event) -> None:
    """Carry out a write or a change of length; a gap reads as zeros."""
    if event.kind is Kind.TRUNCATE:
        del data[event.offset :]
        data.extend(bytes(event.offset - len(data)))
        return
    end = event.offset + len(event.data)
    if len(data) < event.offset:
        data.extend(bytes(event.offset - len(data)))
    data[event.offset : end] = event.data
