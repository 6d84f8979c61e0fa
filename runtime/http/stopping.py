"""Hearing that the process is asked to stop, before the server that handles it waits for its open answers to end.

Servers tell an application of their end only once every answer is complete, and a stream of events never is: without
this the server would wait for the last listener to leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stopping:
    """Stands before the handlers of SIGTERM and SIGINT, but only while somebody wants to know, and there are any.

    The handler that was there is called as before.  Off the main thread, where no signal arrives, nobody is told.
    """

    def __init__(self) -> None:
        self._wanted: dict[object, tuple[asyncio.AbstractEventLoop, Callable[[], object]]] = {}
        self._handlers: dict[int, tuple[Any, Any]] = {}  # ours, and the one before it

    @contextlib.contextmanager
    def calls(self, callback: Callable[[], object]) -> Generator[None]:
        """Have `callback` called on this event loop when the process is asked to stop while this is entered."""
        key = object()
        self._wanted[key] = asyncio.get_running_loop(), callback
        self._stand_before()
        try:
            yield
        finally:
            del self._wanted[key]
            if not self._wanted:
                self._step_aside()

    def _stand_before(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            current = signal.getsignal(number)
            # Without a handler the process ends at once: nobody waits for anything.
            if callable(current) and current is not self._handlers.get(number, (None, None))[0]:
                handler = self._before(current)
                self._handlers[number] = handler, current
                signal.signal(number, handler)

    def _step_aside(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number, (ours, before) in list(self._handlers.items()):
            if signal.getsignal(number) is ours:  # else another one stands before it by now, and may call it
                signal.signal(number, before)
            del self._handlers[number]

    def _before(self, handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], None]:
        def asked(number: int, frame: FrameType | None) -> None:
            for loop, callback in list(self._wanted.values()):
                with contextlib.suppress(RuntimeError):  # a loop that was closed
                    loop.call_soon_threadsafe(callback)
            handler(number, frame)

        return asked


STOPPING: Final = Stopping()  # of the process, as its signals are
