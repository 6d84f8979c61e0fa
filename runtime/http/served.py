"""What the routes see of the app they serve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actor_scheduler.errors import AccessDenied, InvalidArgs, UnknownCron, UnknownFunction, WrongKind
from actor_scheduler.times import to_datetime
from runtime.engine import AuthRequest
from runtime.http.answers import BodyFailed
from runtime.invoke import prepare
from runtime.invoker import RpcInvoker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from datetime import datetime
    from pathlib import Path

    from actor_scheduler.clock import Clock
    from actor_scheduler.model import Args
    from runtime.app_scheduler import AppScheduler
    from runtime.crons import AppCrons
    from runtime.engine import Engine
    from runtime.functions import Function
    from runtime.invoker import Invoker

# What, raised before a body ran, is its caller's mistake, and raised by the body is the app's own.
_CALLERS: tuple[type[Exception], ...] = (InvalidArgs, UnknownFunction, UnknownCron, WrongKind, AccessDenied)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An app, running or not, as its HTTP surface sees it. Calls raise NotStarted while the app does not run."""

    file: Callable[[], Path]  # a harness gives the app another one
    scheduler: AppScheduler
    crons: AppCrons
    engine: Callable[[], Engine]
    functions: Callable[[], Iterable[Function[..., Any]]]  # in order of definition
    backup: Callable[[Path], Awaitable[Any]]
    ensure_started: Callable[[], Awaitable[bool]]  # start it if it never ran; whether it had to be
    unready: Callable[[], str | None]
    clock: Callable[[], Clock]

    @property
    def db(self) -> Path:
        """The database file."""
        return self.file()

    @property
    def unready_reason(self) -> str | None:
        """Why the app does not accept and dispatch work right now; None while it does."""
        return self.unready()

    def now(self) -> datetime:
        """Return the app's clock."""
        return to_datetime(self.clock().now_us())

    async def principal(self, invoker: Invoker, headers: Mapping[str, str]) -> Any:
        """Return who the app's own resolver says that this is; None when it has none."""
        return await self.engine().resolve(AuthRequest(invoker, headers))

    async def rpc(self, path: str, args: Args, auth: Any, once: str | None = None) -> Any:
        """Call a public function for a client, and return what it returned.

        Raises UnknownFunction, AccessDenied, InvalidArgs, WrongKind, KeyConflict or Overloaded before anything ran;
        FunctionError when the function says so; BodyFailed in the place of a mistake that is the function's own.
        """
        return await self._call(path, args, RpcInvoker(), auth, once)

    async def call(self, path: str, args: Args, invoker: Invoker, once: str | None = None) -> Any:
        """Call any function for an operator, and return what it returned. Raises as `rpc`."""
        return await self._call(path, args, invoker, None, once)

    async def _call(self, path: str, args: Args, invoker: Invoker, auth: Any, once: str | None) -> Any:
        engine = self.engine()
        called = prepare(engine.registry, path, args, invoker, auth)
        recorded = engine.recorded(called, once) if once is not None else None
        with engine.admitted(auth):
            try:
                return await engine.enter(called, once=recorded)
            except _CALLERS as error:
                raise BodyFailed(called.function.path) from error
