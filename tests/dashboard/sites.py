"""A real app behind a real server in a thread, and what tests and screenshots do with it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import uvicorn

from runtime import ActionCtx, App, Every, FunctionError, Http, MutationCtx, Namespace, Secrets

OPERATE: Final = "operate-7nVq2LxZp0aYtR4uWc8sEe1dKfGhJm"
READ: Final = "read-Zk3Xv9Qb5Nw7Ht1Ly6Rm8Pc2Sd4FgTjUa"
STARTED: Final = 20  # seconds, on a busy machine
ANSWERED: Final = 120

T = TypeVar("T")


def make_app(path: Path) -> App[Any]:
    """Return an app that has something for every page: functions that end well, badly and not at all, pools, crons."""
    desk = Namespace[Any]("desk")

    @desk.mutation
    async def note(ctx: MutationCtx, *, text: str = "", number: int = 0) -> dict[str, Any]:
        """Return what was given."""
        return {"text": text, "number": number}

    @desk.mutation
    async def refuse(ctx: MutationCtx, *, message: str) -> None:
        """Fail on purpose."""
        raise FunctionError("OUT_OF_STOCK", message, {"item": message})

    @desk.action(pool="hall")
    async def hold(ctx: ActionCtx, *, until: str = "canceled") -> None:
        """Run until it is canceled."""
        await asyncio.Event().wait()

    app = App[Any](path, namespaces=[desk], grace=0.1)
    app.pool("hall", 2)
    # Their ticks are years away, so that no test sees one that it did not ask for.
    app.crons.cron("tidy", "30 3 29 2 *", "desk:note", {"text": "tidy"})
    app.crons.cron("digest/paris", "0 8 29 2 *", "desk:note", tz="Europe/Paris", description="What came in overnight")
    return app


class Site:
    """A served app. `run` runs a coroutine on its loop."""

    def __init__(self, app: App[Any], url: str, loop: asyncio.AbstractEventLoop, asgi: Any) -> None:
        self.app = app
        self.url = url
        self.page = f"{url}/dashboard"
        self._loop = loop
        self._asgi = asgi

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(ANSWERED)

    @property
    def sessions(self) -> Any:
        """Return the sessions of the surface."""
        return self._asgi.routes[0].endpoint._doors._guard.sessions

    # ------------------------------------------------------------ what tests ask for most

    def job(self, path: str, args: dict[str, Any] | None = None, *, after: float = 0, **options: Any) -> str:
        """Schedule a job, and return its id."""
        return self.run(self.app.scheduler.run_after(after, path, args or {}, **options))

    def ended(self, path: str, args: dict[str, Any] | None = None) -> str:
        """Schedule a job for now, wait for its end, and return its id."""
        job_id = self.job(path, args)
        self.run(self.app.scheduler.wait(job_id))
        return job_id

    def held(self) -> str:
        """Schedule a job that runs until it is canceled, wait until it does, and return its id."""
        job_id = self.job("desk:hold")
        self.run(self._runs(job_id))
        return job_id

    async def _runs(self, job_id: str) -> None:
        while (job := await self.app.scheduler.get(job_id)) is None or job.state != "in_progress":
            await asyncio.sleep(0)

    def state(self, job_id: str) -> str | None:
        """Return the state of a job; None when there is no such job."""
        job = self.run(self.app.scheduler.get(job_id))
        return None if job is None else job.state

    def cron(self, name: str, hours: float = 5, **options: Any) -> None:
        """Register a cron."""
        self.run(self.app.crons.register(name, Every(hours=hours), "desk:note", {}, **options))


@contextlib.contextmanager
def serving(make: Callable[[], App[Any]], **options: Any) -> Iterator[Site]:
    """Serve an app on a free port of the loopback interface, in a thread, until the block ends."""
    app = make()
    http = Http(**{
        "operate": Secrets(OPERATE, what="the deploy key"), "read": Secrets(READ, what="the read key"), **options,
    })  # fmt: skip
    asgi = app.asgi(http=http)
    server = uvicorn.Server(uvicorn.Config(asgi, log_level="critical", lifespan="on", timeout_graceful_shutdown=1))
    listening = socket.create_server(("127.0.0.1", 0))
    up = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        began = server.startup

        async def startup(sockets: Any = None) -> None:
            await began(sockets)
            up.set()

        server.startup = startup  # type: ignore[method-assign]
        await server.serve([listening])

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="served app")
    thread.start()
    try:
        assert up.wait(STARTED), "the server did not start"
        yield Site(app, f"http://127.0.0.1:{listening.getsockname()[1]}", loops[0], asgi)
    finally:
        server.should_exit = True
        thread.join(STARTED)
        listening.close()
        assert not thread.is_alive(), "the server did not stop"
