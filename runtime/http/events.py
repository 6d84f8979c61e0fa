"""Live events as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from actor_scheduler.clock import monotonic_us
from actor_scheduler.limits import SECOND_US
from actor_scheduler.times import to_datetime
from runtime.feed import Changed, Event, Feed, JobHappened, Lagged
from runtime.http.plain import moment
from runtime.http.routes import Route
from runtime.http.stopping import STOPPING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from runtime.feed import Listener
    from runtime.http.routes import Visit

BEAT_SECONDS: Final = 15.0  # proxies close what is silent for longer; who listens is looked at again, too
TAKE_SECONDS: Final = 30.0  # for a client to take what was sent: one that takes nothing is let go
STOP_SECONDS: Final = 1.0  # for a stream to end by itself when the server stops
_GREETING: Final = b"retry: 2000\n: listening\n\n"
_BEAT: Final = b": beat\n\n"


async def events(visit: Visit) -> Response:
    """Stream what happens from now on."""
    assert visit.who is not None
    feed, of, operates = visit.served.engine().feed, visit.who.key_id, visit.who.role == "operate"
    feed.check_room(of, operates=operates)  # nobody comes between this and the stream's first step
    return EventStream(feed, visit.still_valid, of=of, operates=operates)


class EventStream(Response):
    """An answer that goes on until its client leaves, may not listen any more, or the app or the server stops."""

    media_type = "text/event-stream"

    def __init__(
        self, feed: Feed, still_valid: Callable[[], bool], *, of: str | None = None, operates: bool = True
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
        self._feed = feed
        self._still_valid = still_valid
        self._of = of
        self._operates = operates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the stream."""
        async with self._feed.listen(self._of, operates=self._operates) as listener:
            streaming = asyncio.ensure_future(self._stream(listener, send))
            leaving = asyncio.ensure_future(_left(receive))

            def stop() -> None:
                listener.end()
                asyncio.get_running_loop().call_later(STOP_SECONDS, streaming.cancel)

            try:
                with STOPPING.calls(stop):
                    await asyncio.wait((streaming, leaving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                leaving.cancel()
                streaming.cancel()
                await asyncio.wait((streaming, leaving))
            for ended in (streaming, leaving):
                # A server may say of a client that has gone that it can't be sent to, or raise for it.
                if not ended.cancelled() and not isinstance(ended.exception(), OSError | None):
                    ended.result()

    async def _stream(self, listener: Listener, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": _GREETING, "more_body": True})
        beat_us = monotonic_us() + round(BEAT_SECONDS * SECOND_US)
        while not listener.ended:
            chunk = b""
            try:
                async with asyncio.timeout(max(beat_us - monotonic_us(), 0) / SECOND_US):
                    chunk = b"".join(map(wire, await listener.batch()))
            except TimeoutError:
                chunk = _BEAT
            if monotonic_us() >= beat_us:
                if not self._still_valid():
                    break
                beat_us = monotonic_us() + round(BEAT_SECONDS * SECOND_US)
            try:
                async with asyncio.timeout(TAKE_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def wire(event: Event) -> bytes:
    """Return an event as it stands in a stream. Made once, whoever listens."""
    if event.wire is None:
        name, data = _told(event)
        # Escaped to ASCII, and without a line break, whatever stands in it.
        text = json.dumps(data, separators=(",", ":"), allow_nan=False)
        event.wire = f"id: {event.number}\nevent: {name}\ndata: {text}\n\n".encode()
    return event.wire


def _told(event: Event) -> tuple[str, dict[str, Any]]:
    match event:
        case JobHappened():
            return "job", {
                "id": event.id,
                "path": event.path,
                "kind": event.kind,
                "state": event.state,
                "attempt": event.attempt,
                "cron": event.cron,
                "cause": event.cause,
                "error": event.error,
                "at": moment(to_datetime(event.at_us)),
            }
        case Changed():
            return "changed", {"what": list(event.what)}
        case Lagged():
            return "lagged", {"dropped": event.dropped}


ROUTES: Final = (
    Route(
        method="GET",
        path="/admin/events",
        door="read",
        handler=events,
        summary="What happens to jobs, as it happens: a stream of server-sent events (job, changed, lagged).",
        answers={
            200: "text/event-stream, until the client leaves",
            429: "too many listeners are connected, of this key or of all",
        },
    ),
)
