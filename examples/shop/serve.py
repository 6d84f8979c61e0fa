"""The shop, with a trickle of customers, and its dashboard: `python -m examples.shop.serve`, or `make serve`.

The deploy key is made at the first start and kept in a private file.  `--customers 0` leaves the shop to you.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from runtime import ActorSchedulerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

_KEY = "ACTOR_SCHEDULER_DEPLOY_KEY"
_HOST = "127.0.0.1"
_ORDERS = 1_000_000  # more than anybody will wait for


def deploy_key(file: Path) -> Path:
    """Return the file with the deploy key; it is made, and readable for its owner only, when there is none."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file
    with os.fdopen(descriptor, "w") as made:
        made.write(secrets.token_urlsafe(32) + "\n")
    return file


def customers(url: str, per_second: float) -> subprocess.Popen[bytes] | None:
    """Start the crowd as a process of its own."""
    if per_second <= 0:
        return None
    command = [
        sys.executable, "-m", "examples.shop.load", "--url", url, "--orders", str(_ORDERS),
        "--per-second", str(per_second), "--cancel-seconds", "10", "--seed", secrets.token_hex(4),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Server(uvicorn.Server):
    """uvicorn around the app's life: what stops the app's start is raised, and `opened` is called once it answers."""

    def __init__(
        self, config: uvicorn.Config, life: AbstractAsyncContextManager[None], opened: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._life = life
        self._opened = opened

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the app, then listen."""
        await self._life.__aenter__()
        await super().startup(sockets)
        if not self.should_exit:
            self._opened()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is open, then stop the app."""
        await super().shutdown(sockets)
        await self._life.__aexit__(None, None, None)


def serve(port: int, per_second: float, key_file: Path) -> None:
    """Serve the shop until it is stopped. Raises OSError when the port is taken, and what stops the app's start."""
    with contextlib.ExitStack() as stack:
        # Before anything else: customers of a port that is taken would trade with whoever has it.
        listening = stack.enter_context(socket.create_server((_HOST, port)))
        if _KEY in os.environ or f"{_KEY}_FILE" in os.environ:
            where = f"the one in {_KEY}"
        else:
            os.environ[f"{_KEY}_FILE"] = str(deploy_key(key_file).resolve())
            where = f"in {key_file} (cat {key_file})"
        from examples.shop.main import api, app  # noqa: PLC0415 - its import reads the keys of the environment

        url = f"http://{_HOST}:{listening.getsockname()[1]}"

        def opened() -> None:
            print(
                f"\n  the shop        {url}\n  its dashboard   {url}/scheduler/dashboard\n  the key         {where}\n",
                flush=True,
            )
            if (crowd := customers(url, per_second)) is not None:
                stack.callback(crowd.wait)
                stack.callback(crowd.terminate)

        config = uvicorn.Config(api, lifespan="off", log_level="warning", timeout_graceful_shutdown=5)
        Server(config, app.lifespan(api), opened).run(sockets=[listening])


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the shop until it is stopped, which is a good end; return 1 when it could not be opened."""
    parser = argparse.ArgumentParser(description="The shop, with a trickle of customers, and its dashboard.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--customers", type=float, default=0.5, metavar="PER_SECOND", help="orders a second (0.5)")
    parser.add_argument("--key-file", type=Path, default=Path("shop.key"), help="where the deploy key is (shop.key)")
    given = parser.parse_args(arguments)
    if not 0 <= given.port <= 65_535:
        parser.error("--port is a number from 0 (any that is free) to 65535")
    # uvicorn stops at a signal, then raises it again for whoever was there before: the crowd shall end, too.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: sys.exit(0))
    try:
        serve(given.port, given.customers, given.key_file)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            print(f"port {given.port} is taken; on another one: PORT=8050 make serve", file=sys.stderr)
        else:
            print(f"the shop can't be opened: {error}", file=sys.stderr)
        return 1
    except ActorSchedulerError as error:
        print(f"the shop can't be opened: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
