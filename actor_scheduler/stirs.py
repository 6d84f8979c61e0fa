"""Telling whoever waits that something has happened which may have made the actor quiet."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


class Stirs:
    """Any number of listeners, each with an event of its own: what one has heard is not lost for another."""

    def __init__(self) -> None:
        self._events: list[asyncio.Event] = []

    def tell(self) -> None:
        """Set the event of every listener."""
        for event in self._events:
            event.set()

    def event(self) -> asyncio.Event:
        """Return an event that is set from now on, for as long as this exists."""
        event = asyncio.Event()
        self._events.append(event)
        return event

    @contextlib.contextmanager
    def listen(self) -> Generator[asyncio.Event]:
        """Yield an event that is set from now on. Clear it, look, and only then wait for it."""
        event = self.event()
        try:
            yield event
        finally:
            self._events.remove(event)
