"""The command line in this process, before an app that stands still between two commands."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from actor_scheduler.testing.clock import VirtualClock
from actor_scheduler.times import from_datetime
from runtime import App
from runtime.cli.client import World
from runtime.cli.main import cli
from runtime.testing import START, Harness
from tests.http.conftest import OPERATE, make_app, make_http

URL = "http://127.0.0.1:8000"


@dataclass
class Desk:
    """An operator's desk: each command finds the app of one file running, at the time it is then.

    A command's connection starts the app on the virtual clock, and ends it; between two commands nothing happens.
    """

    path: Path
    make: Callable[[], App[Any]]
    at: datetime = START
    key: str | None = OPERATE
    people: bool | None = False
    prefix: str = ""
    crons: bool = False  # whether they tick by themselves
    prepare: Callable[[Harness[Any]], object] = lambda _: None
    asked: list[httpx.Request] = field(default_factory=list)
    answer: Callable[[httpx.Request], httpx.Response] | None = None  # instead of the app

    def __call__(self, *words: str, input: str | None = None, env: dict[str, str] | None = None) -> Result:
        """Run a command; the app is the one of `path`, unless the words say otherwise."""
        named = any(word in words for word in ("--url", "--db", "--project-url"))
        given = {"ACTOR_SCHEDULER_URL": "" if named else URL + self.prefix, "ACTOR_SCHEDULER_KEY": self.key}
        given |= {"ACTOR_SCHEDULER_KEY_FILE": None, "ACTOR_SCHEDULER_DEPLOY_KEY": None, **(env or {})}
        world = World(clock=VirtualClock(from_datetime(self.at)), people=self.people, transport=self._transport)
        log = logging.getLogger("actor_scheduler")  # of the app, which is another process as a rule
        log.disabled = True
        try:
            return CliRunner().invoke(cli, list(words), obj=world, input=input, env=given)
        finally:
            log.disabled = False

    def json(self, *words: str, code: int = 0, **options: Any) -> Any:
        """Run a command for programs, and return its one document."""
        done = self(*words, "--json", **options)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[httpx.AsyncBaseTransport]:
        if self.answer is not None:
            yield httpx.MockTransport(self._answer)
            return
        app = self.make()
        harness = Harness(app, db=self.path, start=self.at, crons=self.crons)
        self.prepare(harness)
        async with harness:
            inner = httpx.ASGITransport(app=app.asgi(prefix=self.prefix, http=make_http()))
            yield _Noting(inner, self.asked)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        assert self.answer is not None
        self.asked.append(request)
        return self.answer(request)

    def later(self, **span: float) -> None:
        """Let time pass: what falls due meanwhile runs when the next command comes."""
        self.at += timedelta(**span)


class _Noting(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport, asked: list[httpx.Request]) -> None:
        self._inner = inner
        self._asked = asked

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._asked.append(request)
        return await self._inner.handle_async_request(request)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk before the small app."""
    return Desk(tmp_path / "app.db", make_app)
