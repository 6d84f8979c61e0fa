"""What of an app is served over HTTP, and to whom."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.errors import InvalidArgs
from runtime.http.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

BODY_MAX: Final = 1 << 20  # bytes
BODY_SECONDS: Final = 30.0
_BODY_MOST: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """What the HTTP surface of an app serves, and who may pass its doors.

    A door without secrets is closed: its paths do not exist (404).  `operate` opens all of `/admin` and the dashboard,
    `read` what only looks; with neither there is no administration.  `dispatch` opens `/schedules` and `/tick` for
    outside clocks; `gateway` lets in clocks that prove themselves otherwise: it is awaited with the request, and lets
    it in by returning something true.  `rpc` serves public functions to everybody: the app's own `auth` resolver says
    who calls.

    `read_sees_arguments` shows the `read` role what jobs were called with and what they returned.  `hosts` are the
    names under which a browser may reach the dashboard; unless given, a server bound to a loopback address is reached
    under loopback names only.  `body_max` bounds a request's body, in bytes; `body_seconds` how long it may take.
    """

    operate: Secrets | None = None
    read: Secrets | None = None
    dispatch: Secrets | None = None
    gateway: Callable[[Request], Awaitable[Any]] | None = None
    rpc: bool = True
    openapi: bool = True
    dashboard: bool = True
    read_sees_arguments: bool = False
    hosts: Sequence[str] | None = None
    body_max: int = BODY_MAX
    body_seconds: float = BODY_SECONDS

    def __post_init__(self) -> None:
        """Refuse options that can't hold. Raises InvalidArgs."""
        for name in ("operate", "read", "dispatch"):
            if not isinstance(getattr(self, name), Secrets | None):
                msg = f"{name} is Secrets(…), so that it can be checked and rotated, or None"
                raise InvalidArgs(msg)
        doors = [secrets for secrets in (self.operate, self.read, self.dispatch) if secrets is not None]
        for number, secrets in enumerate(doors):
            for other in doors[:number]:
                secrets.keep_apart(other)
        if type(self.body_max) is not int or not 1 <= self.body_max <= _BODY_MOST:
            msg = f"body_max is a number of bytes from 1 to {_BODY_MOST}, not {self.body_max!r:.40}"
            raise InvalidArgs(msg)
        if not 0 < self.body_seconds <= 3600:
            msg = f"body_seconds is from above 0 to 3600, not {self.body_seconds!r:.40}"
            raise InvalidArgs(msg)
        if isinstance(self.hosts, str):
            msg = "hosts is a list of names, not one text"
            raise InvalidArgs(msg)
        if self.gateway is not None and not callable(self.gateway):
            msg = f"gateway is an async function of the request, not {type(self.gateway).__name__}"
            raise InvalidArgs(msg)

    @property
    def administered(self) -> bool:
        """Whether there is any administration."""
        return self.operate is not None or self.read is not None

    @property
    def dispatched(self) -> bool:
        """Whether outside clocks are let in."""
        return self.dispatch is not None or self.gateway is not None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Http:
        """Open the doors whose secrets the environment names.

        ACTOR_SCHEDULER_DEPLOY_KEY (operate), ACTOR_SCHEDULER_READ_KEY and ACTOR_SCHEDULER_DISPATCH_SECRET, each with a
        second one as …_NEXT during a rotation, or in a private file named by …_FILE.  ACTOR_SCHEDULER_HOSTS is a list
        of host names, with commas.  Raises InvalidSecret.
        """
        hosts = [name.strip() for name in environ.get("ACTOR_SCHEDULER_HOSTS", "").split(",") if name.strip()]
        return cls(
            operate=Secrets.from_env("ACTOR_SCHEDULER_DEPLOY_KEY", environ),
            read=Secrets.from_env("ACTOR_SCHEDULER_READ_KEY", environ),
            dispatch=Secrets.from_env("ACTOR_SCHEDULER_DISPATCH_SECRET", environ),
            hosts=hosts or None,
        )
