"""A web app as its user writes it, FastAPI and uvicorn, with the crash test's functions: made to be stopped.

python -m tests.shutdown.server --nursery <fd>                          forks one server for each request on a socket
SHUTDOWN_DB=app.db uvicorn --factory tests.shutdown.server:from_environment      the same, as it is run by hand
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from tests.crash import child
from tests.crash.asking import answer
from tests.crash.forking import serve
from tests.crash.functions import make_app
from tests.crash.history import Ask
from tests.crash.plan import Plan

_STATUS = {"ack": 200, "refused": 409, "unknown": 504, "error": 500}
UNAVAILABLE = 503


def make_api(plan: Plan, tell: Callable[..., object]) -> FastAPI:
    """Make the web app over the file of a plan. `tell` hears when its scheduler has started, and when it has stopped."""
    scheduler = make_app(plan.db, plan.starts, auth=plan.auth, grace=plan.grace_s)

    @contextlib.asynccontextmanager
    async def lifespan(api: FastAPI) -> AsyncIterator[None]:
        async with scheduler.lifespan(api):
            tell("started")
            yield
        tell("stopped")

    api = FastAPI(lifespan=lifespan)

    @api.post("/ask")
    async def asked(request: Request) -> JSONResponse:
        given = await answer(scheduler, Ask.of(await request.json()))
        status = UNAVAILABLE if given.value == "NotStarted" else _STATUS[given.verdict]
        return JSONResponse(asdict(given), status)

    return api


def from_environment() -> FastAPI:
    """Make the web app over the file that SHUTDOWN_DB names."""
    db = os.environ["SHUTDOWN_DB"]
    return make_api(Plan(db=db, starts=db + ".starts", grace_s=float(os.environ.get("SHUTDOWN_GRACE", "1"))), _nobody)


def _nobody(*_: object) -> None:
    pass


def live(path: Path, out: int) -> None:
    """Serve under uvicorn until a signal ends it; or, with a plan that is to be finished, finish it."""
    plan = Plan.load(path)
    if plan.finish_within_s is not None:
        child.live(plan, out)
        return

    def tell(*event: Any) -> None:
        os.write(out, json.dumps(event).encode() + b"\n")

    config = uvicorn.Config(make_api(plan, tell), log_level="warning", loop="uvloop" if plan.seed % 3 else "asyncio")
    server = uvicorn.Server(config)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)  # from here on a connection waits until it is served
        tell("port", listening.getsockname()[1])
        with contextlib.suppress(KeyboardInterrupt):  # as `uvicorn.run` does
            server.run(sockets=[listening])


def main() -> None:
    """Run a nursery."""
    parser = argparse.ArgumentParser(prog="python -m tests.shutdown.server")
    parser.add_argument("--nursery", type=int, metavar="FD", required=True)
    with socket.socket(fileno=parser.parse_args().nursery) as control:
        serve(control, live)


if __name__ == "__main__":
    main()
