"""Thousands of requests that no sane client sends, to a real server: nothing breaks, nothing hangs, nothing leaks.

python -m tests.http.fuzz --requests 20000

Half of them are made by schemathesis from the two OpenAPI documents, good ones and bad ones; half are raw bytes over a
socket: bad encodings, chunked and slow and truncated bodies, floods of headers, headers twice, other methods.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from pydantic import BaseModel
from schemathesis import GenerationMode

from runtime import ActionCtx, App, FunctionError, Http, MutationCtx, Namespace, QueryCtx, Secrets
from tests.http.conftest import DISPATCH, OPERATE, READ

ROOT = Path(__file__).parents[2]
PATIENCE: Final = 20.0  # seconds for one answer: far beyond what any takes, but for a hang
BODY_SECONDS: Final = 0.2
ENDLESS: Final = {"/admin/events"}  # answers that have no end, and tests of their own
# It refuses a bad chunk by itself, and does not tell the application, whose answer then comes too late.
_UVICORNS_OWN: Final = "h11._util.LocalProtocolError: can't handle event type"
EXPECTED: Final = {503: {"UNAVAILABLE", "OUTCOME_UNKNOWN"}, 504: {"TIMED_OUT"}}  # documented, for their cause

fuzzed = Namespace[Any]("fuzzed", access="public")


class Line(BaseModel):
    item: str
    quantity: int = 1


class Order(BaseModel):
    id: UUID
    lines: list[Line]
    note: str | None = None
    inner: Order | None = None


@fuzzed.query
async def echo(ctx: QueryCtx[Any], *, value: Any = None, number: float = 0.0) -> Any:
    return {"value": value, "number": number}


@fuzzed.query
async def typed(
    ctx: QueryCtx[Any], *, at: datetime, span: timedelta, amount: Decimal, tags: frozenset[str], raw: bytes = b""
) -> Any:
    return [at, span, amount, tags, raw]


@fuzzed.mutation
async def add(ctx: MutationCtx[Any], *, text: str, order: Order | None = None) -> Any:
    await ctx.db.execute("INSERT INTO texts (text) VALUES (?)", [text])
    return order


@fuzzed.mutation
async def later(ctx: MutationCtx[Any], *, text: str, key: Literal["a", "b"] | None = None) -> str:
    return await ctx.scheduler.after(seconds=0).call(add, text=text)


@fuzzed.mutation
async def refuse(ctx: MutationCtx[Any], *, code: Literal["GONE", "CONFLICT", "MY_OWN"], message: str) -> None:
    raise FunctionError(code, message, {"message": message})


@fuzzed.action
async def act(ctx: ActionCtx[Any], *, text: str = "") -> str:
    return text


def make_asgi() -> Any:
    """Return the surface that is fuzzed: everything open, and little patience with slow bodies."""
    app = App[Any](os.environ["FUZZ_DB"], namespaces=[fuzzed], synchronous="NORMAL")
    app.schema("CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")
    app.pool("mail", 2)
    app.crons.interval("sweep", "fuzzed:act", minutes=5)
    app.crons.cron("outside/hourly", "0 * * * *", "fuzzed:act", clock="external")
    doors = {"operate": Secrets(OPERATE), "read": Secrets(READ), "dispatch": Secrets(DISPATCH)}
    return app.asgi(http=Http(**doors, body_seconds=BODY_SECONDS))  # type: ignore[arg-type]


# ------------------------------------------------------------------ the server


SERVE = """
import socket, sys, uvicorn
config = uvicorn.Config("tests.http.fuzz:make_asgi", factory=True, log_level="warning", timeout_graceful_shutdown=10)
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
"""


class Server(NamedTuple):
    port: int
    log: Path
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Serve the surface in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, socket.socket() as door:
        log = Path(folder) / "log"
        door.bind(("127.0.0.1", 0))
        door.listen(512)
        environ = {**os.environ, "FUZZ_DB": str(Path(folder) / "app.db")}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", SERVE, str(door.fileno())],
                cwd=ROOT, env=environ, pass_fds=[door.fileno()], stdout=out, stderr=out,
            )  # fmt: skip
        try:
            yield Server(door.getsockname()[1], log, process)
        finally:
            process.kill()
            process.wait()


# ------------------------------------------------------------------ what is found


@dataclass
class Found:
    """What became of the requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0  # the client went away, or the server closed a connection that made no sense
    slowest: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(self.statuses.values()) + self.unanswered

    def note(self, what: str, status: int, headers: dict[str, str], body: bytes, took: float) -> None:
        """Hold one answer against what every answer promises."""
        self.statuses[status] += 1
        self.slowest = max(self.slowest, took)
        code = None
        if headers.get("content-type", "").startswith("application/json") and body:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                code = json.loads(body)["error"]["code"]
        if status >= 500 and code not in EXPECTED.get(status, set()):
            self.problems.append(f"{status} {code}: {what}: {body[:300]!r}")
        if status >= 400 and code is None and "x-request-id" in headers and body:
            self.problems.append(f"{status} without a code: {what}: {body[:300]!r}")
        if any(key.encode() in body for key in (OPERATE, READ, DISPATCH)):
            self.problems.append(f"a secret came back: {what}")
        if b"Traceback" in body or b'File "/' in body:
            self.problems.append(f"the inside came out: {what}: {body[:300]!r}")

    def look_at(self, server: Server) -> None:
        """Hold the server's own log against what it should say: nothing of an error that nobody expected."""
        text = server.log.read_text("utf-8", "replace")
        for trace in re.finditer(r"Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", text):
            if not trace[1].startswith(_UVICORNS_OWN):
                self.problems.append(f"in the log: {trace[0][-3000:]}")
        for line in re.findall(r".*(?:never retrieved|never awaited|Task was destroyed).*", text):
            self.problems.append(f"in the log: {line}")
        if server.process.poll() is not None:
            self.problems.append(f"the server ended with {server.process.returncode}")

    def report(self) -> str:
        """Return the figures."""
        told = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.requests} requests; {told}; unanswered: {self.unanswered}; slowest answer {self.slowest:.2f} s;"
            f" {len(self.problems)} problems"
        )


# ------------------------------------------------------------------ from the documents


def fuzz_documents(server: Server, found: Found, requests: int, number: int) -> None:
    """Send what schemathesis makes of both documents: half of it fits them, half does not."""
    url = f"http://127.0.0.1:{server.port}"
    keys = {"/openapi.json": DISPATCH, "/admin/openapi.json": OPERATE}
    with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        operations: list[tuple[Any, str]] = []
        for path, key in keys.items():
            document = client.get(path, headers={"Authorization": f"Bearer {OPERATE}"}).json()
            for result in schemathesis.openapi.from_dict(document).get_all_operations():
                operation = result.ok()
                if operation.path not in ENDLESS:
                    operations.append((operation, key))
        each = max(1, requests // (2 * len(operations)))
        for operation, key in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _fuzz_operation(client, found, operation, key, mode, each, number)


def _fuzz_operation(
    client: httpx.Client, found: Found, operation: Any, key: str, mode: GenerationMode, count: int, number: int
) -> None:
    told = set(operation.definition.raw["responses"])
    documented = {status for status in range(100, 600) if {str(status), f"{status // 100}XX"} & told}

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        kwargs = case.as_transport_kwargs(base_url=str(client.base_url).rstrip("/"))
        headers = {**dict(kwargs.get("headers") or {}), "Authorization": f"Bearer {key}"}
        made = {name: kwargs[name] for name in ("params", "json", "data", "content") if kwargs.get(name) is not None}
        if isinstance(made.get("data"), bytes | str):
            made["content"] = made.pop("data")
        if "json" in made:
            made["content"] = json.dumps(made.pop("json")).encode("utf-8", "surrogatepass")
            headers["Content-Type"] = "application/json"
        try:
            request = client.build_request(kwargs["method"], kwargs["url"], headers=_latin(headers), **made)
        except (UnicodeError, ValueError, TypeError, httpx.InvalidURL):  # what this client can't even write
            return
        status = _send(client, found, request)
        if status is not None and status not in documented:
            found.problems.append(f"{status} is not documented: {request.method} {str(request.url)[:200]}")

    try:
        send()
    except Exception as error:
        if "Unsatisfiable" not in type(error).__name__ and "Skip" not in type(error).__name__:
            raise


def _latin(headers: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()]


def _send(client: httpx.Client, found: Found, request: httpx.Request) -> int | None:
    what = f"{request.method} {str(request.url)[:200]} {request.content[:200]!r}"
    began = time.monotonic()
    try:
        answer = client.send(request)
    except httpx.TimeoutException:
        found.problems.append(f"no answer within {PATIENCE:g} s: {what}")
        found.unanswered += 1
    except (httpx.LocalProtocolError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
        found.unanswered += 1
    else:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        found.note(what, answer.status_code, headers, answer.content, time.monotonic() - began)
        return answer.status_code if "x-request-id" in headers else None  # else it is uvicorn's own
    return None


# ------------------------------------------------------------------ raw bytes


class Raw(NamedTuple):
    """One request as bytes, and whether its client goes away without an answer."""

    data: bytes
    leaves: bool = False


PATHS: Final = (
    "/rpc/fuzzed:add", "/rpc/fuzzed:echo", "/rpc/fuzzed:typed", "/rpc/nothing:here", "/schedules/outside/hourly/dispatch",
    "/schedules", "/tick", "/admin/jobs", "/admin/jobs/count", "/admin/cron/run", "/admin/call", "/admin/pools",
    "/admin/jobs/00000000000000000000000000000001", "/admin/jobs/bulk", "/admin/cron/manifests", "/admin/me", "/metrics",
    "/dashboard", "/dashboard/login", "/healthz", "/readyz", "/openapi.json", "/", "//", "*",
)  # fmt: skip
BODIES: Final = (
    b"{}", b"", b'{"text": "a"}', b'{"path": "fuzzed:add", "args": {"text": "a"}}', b'{"name": "sweep"}',
    b'{"value": [1, 2, {"a": null}]}', b'{"nominalFireTime": 1700000000000}', b'{"key": "wrong"}',
    b'{"action": "drop", "filter": {}}', b'{"name": "mail", "limit": 1}',
)  # fmt: skip


# What goes deep: bodies that fit their paths. ID stands for the id of a job that an answer told of.
FITTING: Final[dict[str, tuple[bytes, ...]]] = {
    "/rpc/fuzzed:add": (b'{"text": "a"}', b'{"text": "\\u0000", "order": {"id": "00000000-0000-0000-0000-000000000001", "lines": []}}'),
    "/rpc/fuzzed:later": (b'{"text": "a", "key": "a"}', b'{"text": "b"}'),
    "/rpc/fuzzed:typed": (b'{"at": "2026-01-01T00:00:00", "span": "P1D", "amount": "1e400", "tags": ["a"], "raw": "b"}',),
    "/rpc/fuzzed:refuse": (b'{"code": "MY_OWN", "message": "\\u202e<script>"}',),
    "/admin/jobs": (
        b'{"path": "fuzzed:add", "args": {"text": "a"}, "in": "1h30m", "key": "k", "on_conflict": "replace"}',
        b'{"path": "fuzzed:act", "args": {}, "at": "2027-01-01T00:00:00Z", "lane": "l", "priority": -100}',
        b'{"path": "fuzzed:act", "args": {}, "in": 0, "timeout": 1, "idempotency_key": "i"}', b'{"path": "fuzzed:echo", "args": {}}',
        b'{"path": "nothing:here", "args": {}}', b'{"path": "fuzzed:add", "args": {"text": 1}}', b'{"path": "fuzzed:act", "args": {}, "in": 1e18}',
    ),
    "/admin/jobs/ID/cancel": (b"{}", b'{"running": true}'), "/admin/jobs/ID/retry": (b"{}",), "/admin/jobs/ID/drop": (b"{}",),
    "/admin/jobs/ID/promote": (b"{}",),
    "/admin/jobs/bulk": (
        b'{"action": "cancel", "filter": {"state": "pending"}}', b'{"action": "drop", "filter": {"function": "fuzzed:act"}}',
        b'{"action": "retry", "filter": {}, "confirm": "1.a"}',
    ),
    "/admin/call": (
        b'{"path": "fuzzed:add", "args": {"text": "a"}, "idempotency_key": "c"}', b'{"path": "fuzzed:act", "args": {}}',
        b'{"path": "fuzzed:echo", "args": {"value": {"$bytes": "\\u0000"}}}',
    ),
    "/admin/cron/run": (b'{"name": "sweep"}', b'{"name": "sweep", "scheduled_at": 1700000000000}', b'{"name": "sweep", "scheduled_at": "2026-01-01T00:00:00Z"}'),
    "/admin/cron/pause": (b'{"name": "sweep", "note": "\\u001b[31m"}',), "/admin/cron/resume": (b'{"name": "sweep"}',),
    "/admin/cron/manifests": (b'{"crons": [{"name": "n", "cron": "0 0 30 2 *", "path": "fuzzed:act"}]}', b'{"crons": [{"name": "n", "every_seconds": 60, "path": "fuzzed:act"}]}'),
    "/admin/cron/manifests/activate": (b'{"version": 1}', b'{"version": 0}'),
    "/admin/pools": (b'{"name": "mail", "limit": 0}', b'{"name": "mail", "limit": null}', b'{"name": "none", "limit": 1}'),
    "/admin/pause": (b'{"note": "n"}',), "/admin/resume": (b"{}",), "/tick": (b"{}",), "/admin/backup": (b"{}",),
    "/schedules/outside/hourly/dispatch": (b"{}", b'{"nominalFireTime": "2026-01-01T00:00:00Z"}', b'{"nominal_fire_time": 1790000000000}'),
}  # fmt: skip
LOOKS: Final = (
    "/admin/jobs?text=%00&limit=1", "/admin/jobs?state=pending", "/admin/jobs?function=fuzzed:add&cause=error", "/admin/jobs/ID", "/admin/stats",
    "/admin/jobs/count?lane=l", "/admin/upcoming?limit=1000", "/admin/functions", "/admin/crons?prefix=s&limit=1", "/admin/cron?name=sweep",
    "/admin/cron/preview?name=sweep&n=1000", "/admin/cron/runs?name=sweep&state=skipped", "/admin/cron/manifests?limit=1", "/admin/doctor",
    "/admin/audit?limit=5", "/admin/pools", "/metrics", "/schedules?limit=1&cursor=a", "/tick?wait=0", "/admin/openapi.json",
)  # fmt: skip
_IDS: Final = re.compile(rb'"(?:job_)?id": ?"([0-9a-zA-Z]{20,40})"')


class Maker:
    """Makes requests, the same for the same seed and the same answers."""

    def __init__(self, number: int) -> None:
        self.chance = random.Random(number)
        self.ids: list[str] = ["0" * 32]

    def learn(self, body: bytes) -> None:
        """Take over the ids that an answer tells of."""
        self.ids = [*self.ids, *(found.decode() for found in _IDS.findall(body)[:10])][-50:]

    def make(self) -> Raw:
        """Return one request: a sound one, spoiled once or twice."""
        chance = self.chance
        method = chance.choice(("GET", "POST", "POST", "POST"))
        path = chance.choice(PATHS)
        body = chance.choice(BODIES) if method == "POST" else b""
        key = chance.choice((OPERATE, READ, DISPATCH, "wrong" * 8))
        spoil = chance.choice(SPOILS)
        if chance.random() < 0.5:
            path = chance.choice(LOOKS if method == "GET" else tuple(FITTING)).replace("ID", chance.choice(self.ids))
            key = DISPATCH if path.startswith(("/schedules", "/tick")) else OPERATE
            spoil = chance.choice((sound, spoil))
            if method == "POST":
                body = chance.choice(FITTING.get(path) or (b"{}",))
        headers = [
            (b"Host", b"127.0.0.1"), (b"Authorization", b"Bearer " + key.encode()), (b"Content-Type", b"application/json"),
        ]  # fmt: skip
        made = spoil(self, method, path, headers, body)
        if isinstance(made, Raw):
            return made
        method, path, headers, body = made
        if not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers):
            headers.append((b"Content-Length", str(len(body)).encode()))
        return Raw(head(method, path, headers) + body)

    def noise(self, most: int = 64) -> bytes:
        return self.chance.randbytes(self.chance.randrange(most))


Made = Any
Headers = list[tuple[bytes, bytes]]


def head(method: str, path: str | bytes, headers: Headers, version: bytes = b"HTTP/1.1") -> bytes:
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    lines = [method.encode() + b" " + raw + b" " + version, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def sound(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    return method, path, headers, body


def bad_path(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    pieces = ("%00", "%ff%fe", "%c0%ae", "%0d%0aX-Evil:%20yes", "..", "%2e%2e/", "%", "%zz", "\\", "?a=1&a=2", "#x", "%F0%9F%92%A9",
              ";a=b", "{id}", "?limit=1e9", "?limit=-1", "?cursor=%00", "?text=%ff", "?name=" + "x" * 5000, "//", "?" + "a=1&" * 999,
              "?limit=99999999999999999999", "?state=pending&state=failed", "?cursor=9223372036854775808", "?cursor=-1", "?name=%ED%A0%80")  # fmt: skip
    cut = maker.chance.randrange(len(path) + 1)
    return method, path[:cut] + maker.chance.choice(pieces) + path[cut:], headers, body


def raw_path(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    noise = bytes(byte for byte in maker.noise() if byte not in b" \r\n")
    return Raw(head(method, path.encode() + noise, [*headers, (b"Content-Length", b"0")]))


def other_method(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    methods = (
        "HEAD",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PROPFIND",
        "get",
        "X" * 500,
        "G\tT",
        "POST ",
    )
    return maker.chance.choice(methods), path, headers, body


def override(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    names = (b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override", b"X-Original-URL", b"X-Rewrite-URL", b"X-Forwarded-Host",
             b"X-Forwarded-Prefix", b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"Upgrade")  # fmt: skip
    values = (b"DELETE", b"/admin/me", b"evil.example", b"127.0.0.1", b"websocket", b"h2c", b"for=127.0.0.1")
    return method, path, [*headers, (maker.chance.choice(names), maker.chance.choice(values))], body


def twice(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    name, value = maker.chance.choice(
        [*headers, (b"Idempotency-Key", b"a"), (b"Content-Length", str(len(body)).encode())]
    )
    other = maker.chance.choice((value, b"other", b"Bearer " + OPERATE.encode(), b"0", b"99"))
    return method, path, [*headers, (name, value), (name, other)], body


def flood(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    count, size = maker.chance.choice(((300, 10), (90, 300), (1, 100_000), (3, 20_000), (5000, 1)))
    return method, path, [*headers, *((b"X-%d" % number, b"v" * size) for number in range(count))], body


def odd_header(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    odd = maker.chance.choice((
        (b"Authorization", b"Bearer"), (b"Authorization", b"Bearer \xff\xfe"), (b"Authorization", b"Basic Og=="), (b"Host", b"evil.example"),
        (b"Host", b""), (b"Host", b"[::1"), (b"Cookie", b"actor_scheduler=" + maker.noise().hex().encode()), (b"Cookie", b"=;;=\xff"), (b"Content-Type", b"text/html"),
        (b"Content-Type", b"application/json; charset=utf-7"), (b"Content-Type", b"\xff"), (b"Content-Encoding", b"gzip"), (b"Idempotency-Key", maker.noise().hex().encode() * 9),
        (b"Idempotency-Key", b"\xff"), (b"Expect", b"100-continue"), (b"Range", b"bytes=0-1"), (b"Accept", b"text/event-stream"), (b"Content-Length", b"-1"),
        (b"Content-Length", b"1e9"), (b"Content-Length", b"99999999999999999999"), (b"Last-Event-ID", b"\xff"), (b"Origin", b"null"), (b"Sec-Fetch-Site", b"cross-site"),
        (b"X-Odd", b"a\x00b"), (b"X-Odd", b"a\r\n folded"), (b"Bad Name", b"x"), (b"", b"x"), (b"Traceparent", b"00-zz"), (b"If-None-Match", b"*"),
    ))  # fmt: skip
    return method, path, [(name, value) for name, value in headers if name != odd[0]] + [odd], body


def bad_json(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    whole = maker.chance.choice(BODIES) or b"{}"
    cut = maker.chance.randrange(len(whole) + 1)
    made = maker.chance.choice((
        whole[:cut], whole[:cut] + maker.noise() + whole[cut:], b"[" * 5000, b'{"a":' * 5000, b'{"text": "a", "text": "b"}', b'{"value": NaN}',
        b'{"value": ' + b"9" * 6000 + b"}", b'{"value": 1e999}', b'{"value": "\\ud800"}', b'{"\\udfff": 1}', b"\xef\xbb\xbf{}", '{"value": "ä"}'.encode("utf-16"),
        b'{"value": [' + b"0," * 100_001 + b"0]}", b"null", b"[]", b"1", b'"x"', b"{}{}", b'{"args": {"$bytes": 1}}', b'{"__proto__": {}}', b'{"value": -9223372036854775809}',
        b'{"at": "0001-01-01T00:00:00+23:59", "span": 1e300, "amount": "NaN", "tags": ["a", "a"]}', b'{"path": "' + b"a" * 5000 + b'"}',
        b'{"nominal_fire_time": 1e308}', b'{"nominalFireTime": "9999-12-31T23:59:59-23:59"}', b'{"name": "sweep", "scheduled_at": -1e300}',
        b'{"path": "fuzzed:add", "args": {"text": "a"}, "in": "' + b"9" * 400 + b'd"}', b'{"path": "fuzzed:add", "args": {"text": "a"}, "at": 1e18}',
        b'{"crons": [{"name": "a", "cron": "* * * * *", "tz": "../../etc/passwd", "path": "fuzzed:act"}]}', b'{"version": 9223372036854775807}',
        b'{"crons": [{"name": "a", "every_seconds": 1e-9, "path": "fuzzed:act"}]}', b'{"action": "cancel", "filter": {"text": "\\u0000%_"}}',
    ))  # fmt: skip
    return "POST", path, headers, made


def large(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    return "POST", path, headers, b'{"text": "' + b"a" * maker.chance.choice((1 << 20, (1 << 20) - 12, 2 << 20)) + b'"}'


def chunked(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    kinds = (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), b"%x;ext=1\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(body), body), b"zz\r\n", b"-1\r\n{}\r\n",
             b"FFFFFFFFFFFFFFFFF\r\n{}", b"2\r\n{}\r\n", b"0\r\n\r\n", b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"2\n{}\n0\n\n")  # fmt: skip
    headers = [
        *headers,
        (
            b"Transfer-Encoding",
            maker.chance.choice((b"chunked", b"chunked", b"gzip, chunked", b"identity", b"xchunked")),
        ),
    ]
    if maker.chance.random() < 0.3:
        headers.append((b"Content-Length", b"2"))
    return Raw(head("POST", path, headers) + maker.chance.choice(kinds))


def truncated(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    """Promise more than comes, and wait (the server gives up), or go away."""
    data = head("POST", path, [*headers, (b"Content-Length", str(len(body) + 10).encode())]) + body
    return Raw(data, leaves=maker.chance.random() < 0.8)


def cut_off(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    data = head(method, path, headers) + body
    return Raw(data[: maker.chance.randrange(1, len(data))], leaves=True)


def noise(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    data = bytearray(head(method, path, [*headers, (b"Content-Length", str(len(body)).encode())]) + body)
    for _ in range(maker.chance.randrange(1, 6)):
        data[maker.chance.randrange(len(data))] = maker.chance.randrange(256)
    return Raw(bytes(data), leaves=True)


def pipelined(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    one = (
        head("POST", path, [*headers, (b"Content-Length", str(len(body)).encode())]).replace(
            b"Connection: close\r\n", b""
        )
        + body
    )
    return Raw(one * maker.chance.randrange(2, 9), leaves=True)


def version(maker: Maker, method: str, path: str, headers: Headers, body: bytes) -> Made:
    found = maker.chance.choice((b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"ICY", b""))
    return Raw(head(method, path, [*headers, (b"Content-Length", b"0")], found), leaves=found != b"HTTP/1.0")


SPOILS: Final[tuple[Callable[..., Made], ...]] = (
    sound, bad_path, bad_path, raw_path, other_method, override, twice, flood, odd_header, odd_header, bad_json, bad_json, bad_json,
    chunked, truncated, cut_off, noise, pipelined, version,
)  # fmt: skip


def fuzz_bytes(server: Server, found: Found, requests: int, number: int) -> None:
    """Send raw bytes, one connection each; now and then see that the server is well."""
    maker = Maker(number)
    for count in range(requests):
        if count % 100 == 50:
            large_one = large(
                maker,
                "POST",
                maker.chance.choice(PATHS),
                [(b"Host", b"x"), (b"Content-Type", b"application/json")],
                b"",
            )
            raw = Raw(
                head(*large_one[:2], [*large_one[2], (b"Content-Length", str(len(large_one[3])).encode())])
                + large_one[3]
            )
        else:
            raw = maker.make()
        _exchange(server, found, raw, maker)
        if count % 200 == 199:
            well = Raw(head("GET", "/healthz", [(b"Host", b"127.0.0.1")]))
            before = found.statuses[200]
            _exchange(server, found, well)
            if found.statuses[200] != before + 1:
                found.problems.append("the server was not well any more")


def _exchange(server: Server, found: Found, raw: Raw, maker: Maker | None = None) -> None:
    what = repr(raw.data[:500])
    began = time.monotonic()
    try:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as link:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the server need not hear all of it
                link.sendall(raw.data)
            if raw.leaves:
                found.unanswered += 1
                return
            answer = http.client.HTTPResponse(link, method=raw.data.partition(b" ")[0].decode("latin-1"))
            answer.begin()
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                found.statuses[answer.status] += 1
                return
            body = answer.read()
    except TimeoutError:
        found.problems.append(f"no answer within {PATIENCE:g} s: {what}")
        found.unanswered += 1
    except (http.client.HTTPException, ConnectionError, OSError):
        found.unanswered += 1
    else:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        found.note(what, answer.status, headers, body, time.monotonic() - began)
        if maker is not None:
            maker.learn(body)


# ------------------------------------------------------------------ the campaign


def run(requests: int, number: int) -> Found:
    """Send so many requests, and return what was found."""
    found = Found()
    with serving() as server:
        fuzz_bytes(server, found, requests // 2, number)
        fuzz_documents(server, found, requests - found.requests, number)
        while found.requests < requests:  # what schemathesis could not make
            fuzz_bytes(server, found, requests - found.requests, number + found.requests)
        _exchange(server, found, Raw(head("GET", "/healthz", [(b"Host", b"127.0.0.1")])))
        found.look_at(server)
    return found


def main() -> int:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given_ = parser.parse_args()
    began = time.monotonic()
    found = run(given_.requests, given_.seed)
    for problem in found.problems[:20]:
        print(problem)
    print(f"{found.report()}; {time.monotonic() - began:.0f} s, seed {given_.seed}")
    return 1 if found.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
