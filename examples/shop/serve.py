"""The shop, with a trickle of customers, and its dashboard: `python -m examples.shop.serve`, or `make serve`.

The deploy key is made at the first start and kept in a private file.  `--customers 0` leaves the shop to you.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvicorn

_KEY = "ACTOR_SCHEDULER_DEPLOY_KEY"
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
    """Start the crowd as a process of its own. It sends again what gets no answer, so it may come before the shop."""
    if per_second <= 0:
        return None
    command = [
        sys.executable, "-m", "examples.shop.load", "--url", url, "--orders", str(_ORDERS),
        "--per-second", str(per_second), "--cancel-seconds", "10", "--seed", secrets.token_hex(4),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> None:
    """Serve the shop until it is stopped."""
    parser = argparse.ArgumentParser(description="The shop, with a trickle of customers, and its dashboard.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--customers", type=float, default=0.5, metavar="PER_SECOND", help="orders a second (0.5)")
    parser.add_argument("--key-file", type=Path, default=Path("shop.key"), help="where the deploy key is (shop.key)")
    given = parser.parse_args(arguments)
    if _KEY in environ or f"{_KEY}_FILE" in environ:
        where = f"the one in {_KEY}"
    else:
        os.environ[f"{_KEY}_FILE"] = str(deploy_key(given.key_file).resolve())
        where = f"in {given.key_file} (cat {given.key_file})"
    url = f"http://127.0.0.1:{given.port}"
    print(
        f"\n  the shop        {url}\n  its dashboard   {url}/scheduler/dashboard\n  the key         {where}\n",
        flush=True,
    )
    # uvicorn stops at SIGTERM, then raises it again for whoever was there before: the crowd shall end, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    crowd = customers(url, given.customers)
    try:
        uvicorn.run("examples.shop.main:api", port=given.port, log_level="warning", timeout_graceful_shutdown=5)
    finally:
        if crowd is not None:
            crowd.terminate()
            crowd.wait()


if __name__ == "__main__":
    main()
