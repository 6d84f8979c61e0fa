"""Time zones whose rules change, or are gone: real files of zoneinfo, put in and taken out."""

from __future__ import annotations

import importlib.resources
import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actor_scheduler.crons import search, spec


class Zones:
    """The zones of a machine, for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, rules: str) -> None:
        """Let a zone have the rules of a real one."""
        area, _, city = rules.rpartition("/")
        source = importlib.resources.files("tzdata.zoneinfo") / area / city
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(source.read_bytes())
        self.forget()

    def remove(self, name: str) -> None:
        """Let a zone be unknown."""
        (self._folder / name).unlink()
        self.forget()

    def forget(self) -> None:
        """Be another process: nothing it has read is in memory."""
        zoneinfo.ZoneInfo.clear_cache()
        spec._shared.cache_clear()
        for thing in vars(search).values():
            if hasattr(thing, "cache_clear"):
                thing.cache_clear()


@contextmanager
def zones_in(folder: Path) -> Iterator[Zones]:
    """Let a folder hold zones, beside those of the package tzdata."""
    before = zoneinfo.TZPATH
    folder.mkdir()
    zoneinfo.reset_tzpath([folder])
    zones = Zones(folder)
    try:
        yield zones
    finally:
        zoneinfo.reset_tzpath(before)
        zones.forget()
