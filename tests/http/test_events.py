"""Live events over HTTP: told once durable, in a form that nothing stored can break, and ended when they must be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.feed import LISTENERS_MAX, OF_ONE_MAX, OPERATORS_ROOM, Feed, Lagged
from runtime.http import events as events_module
from runtime.http.events import EventStream, wire
from runtime.http.secrets import Secrets
from runtime.http.stopping import STOPPING, Stopping
from tests.http.conftest import NEXT, OPERATE, READ, Site
from tests.http.hostile import CORPUS

ROOT = Path(__file__).parents[2]


class Stream:
    """One request for events, as a server makes it: httpx' own transport would wait for the end of the answer."""

    def __init__(self, asgi: Any, key: str = READ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ended = False
        self._body = bytearray()
        self._more = asyncio.Event()
        self._gone = asyncio.Event()
        self.taking = asyncio.Event()  # cleared: the client takes nothing any more
        self.taking.set()
        headers = [(b"host", b"testserver"), (b"authorization", f"Bearer {key}".encode())]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/admin/events", "raw_path": b"/admin/events", "query_string": b"", "root_path": "",
            "headers": headers, "server": ("testserver", 80), "client": ("127.0.0.1", 5),
        }  # fmt: skip
        self.task = asyncio.create_task(asgi(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.taking.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): text.decode() for name, text in message["headers"]}
        else:
            self._body += message["body"]
            self.ended = not message.get("more_body", False)
        self._more.set()

    async def until(self, mark: str) -> str:
        """Return what came up to and including a mark."""
        while mark.encode() not in self._body:
            self._more.clear()
            await asyncio.wait_for(self._more.wait(), 10)
        head, _, rest = self._body.partition(mark.encode())
        self._body = rest
        return (head + mark.encode()).decode()

    async def event(self) -> tuple[str, Any, int]:
        """Return the next event: its name, its data, its number."""
        while True:
            lines = (await self.until("\n\n")).strip("\n").split("\n")
            fields = dict(line.split(": ", 1) for line in lines)
            if "event" in fields:
                assert set(fields) == {"id", "event", "data"}
                return fields["event"], json.loads(fields["data"]), int(fields["id"])

    async def happened(self, state: str) -> Any:
        """Return the data of the next event of a job in this state."""
        while True:
            name, data, _ = await self.event()
            if name == "job" and data["state"] == state:
                return data

    def leave(self) -> None:
        self._gone.set()

    async def end(self) -> None:
        await asyncio.wait_for(self.task, 10)


@contextlib.asynccontextmanager
async def listening(site: Site, key: str = READ) -> AsyncIterator[Stream]:
    stream = Stream(site.asgi, key)
    await stream.until(": listening\n\n")
    try:
        yield stream
    finally:
        stream.leave()
        await asyncio.wait([stream.task])


# ------------------------------------------------------------------ what is told


async def test_a_job_is_followed_from_start_to_end(site: Site) -> None:
    """Its attempts and how they ended, with all that a list shows of it."""
    async with listening(site) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert "content-length" not in stream.headers
        job_id = await site.harness.scheduler.run_now("notes:fail", {"message": "no\nluck"})
        started = await stream.happened("in_progress")
        failed = await stream.happened("failed")
        assert set(started) == {"id", "path", "kind", "state", "attempt", "cron", "cause", "error", "at"}
        assert (started["id"], started["path"], started["kind"], started["attempt"]) == (
            job_id,
            "notes:fail",
            "action",
            1,
        )
        assert (failed["cause"], failed["error"], failed["at"]) == (
            "error",
            "RuntimeError: no luck",  # one line: the whole text stands in the traceback
            "2026-01-01T00:00:00.000000Z",
        )


async def test_changes_are_told(site: Site) -> None:
    """A page that shows jobs knows when to look again."""
    async with listening(site) as stream:
        await site.harness.scheduler.run_after(50, "notes:add", {"text": "x"})
        name, data, _ = await stream.event()
        assert (name, data) == ("changed", {"what": ["jobs"]})


async def test_hostile_text_stays_inside_its_event(site: Site) -> None:
    """Line breaks and fields of the stream's own format, in what a function raised, are characters of a JSON text."""
    corpus = [*CORPUS[:40], "x\n\nevent: job\ndata: {}\n\n", "a\rb\r\nc", "\u2028\u2029\x85"]
    async with listening(site) as stream:
        numbers = []
        for text in corpus:
            await site.harness.scheduler.run_now("notes:fail", {"message": text})
            await site.harness.settle()
        seen = 0
        while seen < len(corpus):
            name, data, number = await stream.event()
            numbers.append(number)
            seen += name == "job" and data["state"] == "failed"
        assert numbers == sorted(set(numbers))


def test_an_event_is_put_into_bytes_once() -> None:
    """However many listen."""
    event = Lagged(dropped=3, number=9)
    assert wire(event) == b'id: 9\nevent: lagged\ndata: {"dropped":3}\n\n'
    assert wire(event) is wire(event)


async def test_who_is_too_slow_is_told_how_much_it_missed(site: Site) -> None:
    """It gets the newest events, and holds nobody up."""
    async with listening(site) as slow, listening(site) as quick:
        slow.taking.clear()
        feed = site.app._started().feed
        for _ in range(2):
            for _ in range(400):
                await site.harness.scheduler.run_now("notes:add", {"text": "x"})
            await site.harness.settle()
            while (await quick.event())[2] < feed.number:
                pass
        slow.taking.set()
        told, expected = [], 0
        while expected < feed.number:
            name, data, number = await slow.event()
            told += [data["dropped"]] if name == "lagged" else []
            assert number == expected + (data["dropped"] if name == "lagged" else 1)
            expected = number
        assert sum(told) >= 600


# ------------------------------------------------------------------ how it ends


async def test_who_leaves_is_forgotten_at_once(site: Site) -> None:
    """Nothing has to be sent to find out."""
    feed = site.app._started().feed
    async with listening(site) as stream:
        assert len(feed) == 1
        stream.leave()
        await stream.end()
        assert len(feed) == 0
        assert STOPPING._wanted == {}


async def test_it_beats_and_looks_whether_it_may_go_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret that was rotated out ends the stream that it opened, at the next beat; others go on."""
    monkeypatch.setattr(events_module, "BEAT_SECONDS", 0.01)
    assert isinstance(site.http.read, Secrets)
    site.http.read.rotate(READ, NEXT)
    async with listening(site) as stream, listening(site, NEXT) as other:
        await stream.until(": beat\n\n")
        site.http.read.rotate(NEXT)
        await stream.end()
        assert stream.ended
        await other.until(": beat\n\n")
        assert not other.ended


async def test_it_looks_although_events_never_cease(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat that only silence brings would let a busy stream go on for ever."""
    monkeypatch.setattr(events_module, "BEAT_SECONDS", 0.01)
    valid = True
    feed = Feed()

    async def send(message: Any) -> None:
        feed.changed(["jobs"])
        feed._tell_changed()  # there is always something to tell
        nonlocal valid
        valid = False

    async def receive() -> Any:
        await asyncio.Event().wait()

    await asyncio.wait_for(EventStream(feed, lambda: valid)({}, receive, send), 10)


async def test_a_client_that_takes_nothing_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stands, but nobody reads: it must not keep its place for ever."""
    monkeypatch.setattr(events_module, "TAKE_SECONDS", 0.01)
    async with listening(site) as stream:
        stream.taking.clear()
        await site.harness.scheduler.run_now("notes:add", {"text": "x"})
        await stream.end()
        assert len(site.app._started().feed) == 0


@pytest.mark.parametrize(("error", "told"), [(ConnectionResetError("gone"), False), (ValueError("a bug"), True)])
async def test_a_server_that_says_that_nobody_is_there_is_believed(error: Exception, told: bool) -> None:
    """Some raise when a client has gone; anything else is a bug, and is seen."""
    feed = Feed()

    async def send(message: Any) -> None:
        raise error

    async def receive() -> Any:
        await asyncio.Event().wait()

    serving = EventStream(feed, lambda: True)({}, receive, send)
    if told:
        with pytest.raises(ValueError, match="a bug"):
            await asyncio.wait_for(serving, 10)
    else:
        await asyncio.wait_for(serving, 10)
    assert len(feed) == 0


async def test_beyond_the_limit_it_is_refused(site: Site, reader: httpx.AsyncClient) -> None:
    """With an answer, not with a stream that ends."""
    feed = site.app._started().feed
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(LISTENERS_MAX):
            await stack.enter_async_context(feed.listen())
        answer = await reader.get("/admin/events")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "OVERLOADED")


async def test_one_key_can_not_take_all_the_places(
    site: Site, reader: httpx.AsyncClient, operator: httpx.AsyncClient
) -> None:
    """Whoever has the read key can't lock the operators out, nor can those who share one operate key."""
    for key, client in ((READ, reader), (OPERATE, operator)):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(OF_ONE_MAX):
                await stack.enter_async_context(listening(site, key))
            answer = await asyncio.wait_for(client.get("/admin/events"), 10)  # what is let in never ends
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "OVERLOADED")
            assert "this key" in answer.json()["error"]["message"]
            await stack.enter_async_context(listening(site, OPERATE if key == READ else READ))
        async with listening(site, key):
            pass


async def test_the_last_places_are_for_operators(site: Site, reader: httpx.AsyncClient) -> None:
    """However many keys the listeners have."""
    feed = site.app._started().feed
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(LISTENERS_MAX - OPERATORS_ROOM):
            await stack.enter_async_context(feed.listen())
        answer = await asyncio.wait_for(reader.get("/admin/events"), 10)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "OVERLOADED")
        for _ in range(OPERATORS_ROOM):
            await stack.enter_async_context(listening(site, OPERATE))
        assert len(feed) == LISTENERS_MAX


async def test_it_ends_with_the_app(site: Site) -> None:
    """What happened until then is told first."""
    async with listening(site) as stream:
        await site.harness.scheduler.run_now("notes:add", {"text": "x"})
        await site.harness.settle()
        await site.harness.restart(kill=False)
        await stream.end()
        assert stream.ended
        await stream.happened("success")


async def test_it_ends_when_the_server_is_asked_to_stop(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose client takes nothing; the handler that was there is called, and stands there again afterwards."""
    monkeypatch.setattr(events_module, "STOP_SECONDS", 0.01)
    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        async with listening(site) as stream, listening(site) as stuck:
            stuck.taking.clear()
            await site.harness.scheduler.run_now("notes:add", {"text": "x"})
            await site.harness.settle()
            assert signal.getsignal(signal.SIGTERM) is not mine
            os.kill(os.getpid(), signal.SIGTERM)
            await stream.end()
            await asyncio.wait([stuck.task])
        assert asked == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_process_without_handlers_ends_as_before() -> None:
    """Nothing is put before the default: a signal that ends the process must go on doing so."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with Stopping().calls(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_that_came_later_is_left_alone() -> None:
    """A server that puts its own back, or another one that stands before ours: nobody's handler is lost."""
    called: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: called.append("server"))
    stopping = Stopping()
    try:
        with stopping.calls(lambda: called.append("stream")):
            ours = signal.getsignal(signal.SIGTERM)
            assert callable(ours)

            def outer(number: int, frame: Any) -> None:
                called.append("outer")
                ours(number, frame)

            signal.signal(signal.SIGTERM, outer)
            with stopping.calls(lambda: called.append("second")):
                os.kill(os.getpid(), signal.SIGTERM)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert called.count("server") == called.count("outer") == 1
            assert {"stream", "second"} <= set(called)
        called.clear()
        os.kill(os.getpid(), signal.SIGTERM)
        assert "server" in called
    finally:
        signal.signal(signal.SIGTERM, before)


def test_off_the_main_thread_nothing_is_touched() -> None:
    """Where signals can't be handled there is nothing to do, and nothing to fail on."""

    async def enter() -> bool:
        with Stopping().calls(lambda: None):
            return True

    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(enter())))
    thread.start()
    thread.join(10)
    assert found == [True]


SERVER = """
import socket, sys
import uvicorn
from tests.http.conftest import make_app, make_http
app = make_app(sys.argv[1])
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app.asgi(http=make_http()), loop=sys.argv[2], log_level="warning")
uvicorn.Server(config).run(sockets=[listener])
"""


@contextlib.contextmanager
def server(folder: Path, loop: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-c", SERVER, str(folder / "app.db"), loop]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 60)[0], "the server did not start"
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("loop", ["uvloop"])  # asyncio ends the same way, and this takes a second
def test_open_streams_and_beats_do_not_hold_up_a_servers_end(tmp_path: Path, loop: str) -> None:
    """A real uvicorn, its own defaults, which wait for open answers for ever: SIGTERM ends it, and in good order."""
    with server(tmp_path, loop) as (process, port):
        streams = []
        for path in ("/admin/events", "/admin/events", "/tick?wait=600"):
            key = READ if "events" in path else "dispatch-Bq8Wm2Xc5Vn7Za1Ls3Kd9Jf4Hg6Pt"
            stream = socket.create_connection(("127.0.0.1", port), timeout=30)
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
            if "events" in path:
                received = b""
                while b": listening" not in received:
                    received += stream.recv(4096)
            streams.append(stream)
        process.send_signal(signal.SIGTERM)
        for stream in streams[:2]:
            while stream.recv(4096):  # to its end
                pass
        _, errors = process.communicate(timeout=30)
        for stream in streams:
            stream.close()
    assert process.returncode in (0, -signal.SIGTERM), errors
    assert "Traceback" not in errors
