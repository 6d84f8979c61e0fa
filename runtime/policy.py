"""What a decorator says beside the body: how long, how often, how many at once, and how long its jobs are kept."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from actor_scheduler.errors import InvalidArgs, NotRegistrable, storable
from actor_scheduler.limits import KEEP_US, RATE_MAX
from actor_scheduler.queues import Rate, parse_rate
from actor_scheduler.retry import Retry, retry_policy
from actor_scheduler.times import Delay, delay_us, timeout_us
from runtime.quota import Quota

if TYPE_CHECKING:
    from actor_scheduler.model import Kind

LIMIT_US: Final = 10_000_000  # a query or mutation without a `timeout` may use the database for this long
POOL_CHARS_MAX: Final = 64
_A: Final = {"query": "a query", "mutation": "a mutation", "action": "an action"}
_OPTIONS: Final[dict[str, frozenset[str]]] = {
    "query": frozenset({"timeout"}),
    "mutation": frozenset({"timeout", "retry", "keep"}),
    "action": frozenset({"timeout", "retry", "keep", "concurrency", "pool", "rate"}),
}


class Policy(NamedTuple):
    """How jobs of a function run, beside their own options."""

    timeout_us: int | None = None
    retry: Retry | None = None
    concurrency: int | None = None
    pool: str | None = None
    rate: Rate | None = None
    keep_us: int | None = KEEP_US  # None: for ever


def make_policy(kind: Kind, options: dict[str, Any]) -> Policy:
    """Return the policy that a decorator's options ask for. Raises NotRegistrable, InvalidArgs or InvalidTime."""
    unknown = options.keys() - _OPTIONS[kind]
    if unknown:
        msg = f"{_A[kind]} takes no {' and no '.join(sorted(unknown))}; it takes {', '.join(sorted(_OPTIONS[kind]))}"
        raise NotRegistrable(msg)
    given = {name: value for name, value in options.items() if value is not None}
    limit_us = LIMIT_US if kind != "action" else None
    return Policy(
        timeout_us=timeout_us(given["timeout"]) if "timeout" in given else limit_us,
        retry=retry_policy(given["retry"]) if "retry" in given else None,
        concurrency=_concurrency(given["concurrency"]) if "concurrency" in given else None,
        pool=check_pool(given["pool"]) if "pool" in given else None,
        rate=parse_rate(given["rate"]) if "rate" in given else None,
        keep_us=_keep_us(given["keep"]) if "keep" in given else KEEP_US,
    )


def check_pool(name: object) -> str:
    """Return a pool's name. Raises InvalidArgs."""
    if not (isinstance(name, str) and 0 < len(name) <= POOL_CHARS_MAX and storable(name) == name and "#" not in name):
        msg = f"a pool's name is a str of 1 to {POOL_CHARS_MAX} characters without '#', not {name!r:.80}"
        raise InvalidArgs(msg)
    return name


def _concurrency(limit: object) -> int:
    if type(limit) is not int or not 1 <= limit <= RATE_MAX:
        msg = f"concurrency is a whole number from 1 to {RATE_MAX}, not {limit!r:.40}"
        raise InvalidArgs(msg)
    return limit


def _keep_us(keep: Delay) -> int | None:
    if isinstance(keep, timedelta) and keep == timedelta.max:
        return None
    return delay_us(keep, what="keep")


def check_settings(synchronous: object, max_running_actions: object, auth: object, quota: object) -> None:
    """Raise InvalidArgs for a setting of an app that would not do what it seems to say."""
    if synchronous not in ("FULL", "NORMAL", "EXTRA", "OFF"):
        msg = f'synchronous must be "FULL", "NORMAL", "EXTRA" or "OFF", not {synchronous!r:.40}'
        raise InvalidArgs(msg)
    if type(max_running_actions) is not int or max_running_actions < 1:
        msg = f"max_running_actions must be at least 1, a whole number, not {max_running_actions!r:.40}"
        raise InvalidArgs(msg)
    if auth is not None and not callable(auth):
        msg = f"auth is an async function of one AuthRequest, not {type(auth).__name__}"
        raise InvalidArgs(msg)
    if quota is not None and not isinstance(quota, Quota):
        msg = f"quota is a Quota, not {type(quota).__name__}"
        raise InvalidArgs(msg)


def database_path(db: str | os.PathLike[str]) -> Path:
    """Return the path of an app's file. Raises InvalidArgs for what is no file."""
    text = os.fspath(db)
    if text.startswith(("postgres://", "postgresql://")):
        msg = "PostgreSQL is not supported yet: give the path of an SQLite file"
        raise InvalidArgs(msg)
    if not text or text.startswith((":memory:", "file:", "sqlite:")):
        msg = f"{text!r} is not the path of a file: jobs must survive the process, so they need one"
        raise InvalidArgs(msg)
    return Path(text)
