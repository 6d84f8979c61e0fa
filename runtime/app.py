"""The app: what a web developer makes, includes namespaces in, and puts into the lifespan."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

from typing_extensions import TypeVar as DefaultTypeVar

from actor_scheduler.actor import Actor
from actor_scheduler.clock import Clock, SystemClock
from actor_scheduler.errors import AlreadyStarted, InvalidArgs, NotStarted, SchemaError
from actor_scheduler.ids import NonceSource, SystemNonces
from actor_scheduler.limits import ACTIONS_MAX, STUCK_SECONDS, WINDOW_MAX
from actor_scheduler.options import check_key
from actor_scheduler.settings import POOL_LIMIT_MAX
from actor_scheduler.store.cron_units import CronTargets
from actor_scheduler.store.sqlite import SqliteStore
from actor_scheduler.store.sqlite.app_schema import SchemaStep, read_steps
from actor_scheduler.store.sqlite.backup import Backup, backup_aside
from actor_scheduler.times import Delay, delay_us
from runtime.app_scheduler import AppScheduler
from runtime.caller import BoundCaller, Caller
from runtime.crons import Activation, AppCrons
from runtime.engine import AuthRequest, Engine
from runtime.functions import Function, Namespace
from runtime.hooks import Hook, Hooks
from runtime.hooks import Moment as HookMoment
from runtime.invoker import Access, LocalInvoker
from runtime.policy import check_pool, check_settings, database_path
from runtime.providers import Provider, Providers
from runtime.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
    from types import TracebackType

    from starlette.types import ASGIApp

    from actor_scheduler.model import Args
    from actor_scheduler.ports import Running
    from actor_scheduler.store.sqlite.store import Synchronous
    from runtime.http.options import Http
    from runtime.quota import Quota

P = ParamSpec("P")
R = TypeVar("R")
AuthT = DefaultTypeVar("AuthT", default=Any)
HookT = TypeVar("HookT", bound=Hook)

_LOCAL = LocalInvoker()
_HOOKS_SECONDS = 1.0  # for hooks to hear the last events when the app stops


class App(Generic[AuthT]):
    """One durable scheduler over one SQLite file, and the functions it runs.

    `async with app:` or `FastAPI(lifespan=app.lifespan)` starts it.  Between start and end one process owns the file.

    `db` is the file; it is created unless `create=False`.  `auth` resolves who a call acts as; it is also asked for
    scheduled runs, with an invoker whose source is "scheduler", "cron" or "admin".  `lock_timeout` is how long a start
    waits for a predecessor to let go of the file; `grace` how long running actions may go on when the app stops; both
    are timedeltas or seconds.  `max_running_actions` bounds the scheduled actions that run at once; `quota` what one
    user may call live.  `synchronous="NORMAL"` trades the last moments before a power cut for speed with few callers.
    `cron_activation="manual"` lets the crons that the code defines wait for `app.crons.activate(version)`.
    `exit_when_stuck` ends the process (code 70) when a mutation has held the writer for over 30 seconds, so that a
    supervisor starts it again; without it the app refuses new work, says so in `unready_reason`, and waits.
    """

    @overload
    def __init__(
        self: App[Any],
        db: str | os.PathLike[str],
        /,
        *,
        namespaces: Iterable[Namespace[Any]] = (),
        create: bool = True,
        synchronous: Synchronous = "FULL",
        lock_timeout: Delay = 10,
        grace: Delay = 10,
        max_running_actions: int = ACTIONS_MAX,
        quota: Quota[Any] | None = None,
        exit_when_stuck: bool = False,
        cron_activation: Activation = "automatic",
        clock: Clock | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        db: str | os.PathLike[str],
        /,
        *,
        auth: Callable[[AuthRequest], Awaitable[AuthT | None]],
        namespaces: Iterable[Namespace[AuthT]] = (),
        create: bool = True,
        synchronous: Synchronous = "FULL",
        lock_timeout: Delay = 10,
        grace: Delay = 10,
        max_running_actions: int = ACTIONS_MAX,
        quota: Quota[AuthT] | None = None,
        exit_when_stuck: bool = False,
        cron_activation: Activation = "automatic",
        clock: Clock | None = None,
    ) -> None: ...
    def __init__(
        self,
        db: str | os.PathLike[str],
        /,
        *,
        auth: Callable[[AuthRequest], Awaitable[Any]] | None = None,
        namespaces: Iterable[Namespace[Any]] = (),
        create: bool = True,
        synchronous: Synchronous = "FULL",
        lock_timeout: Delay = 10,
        grace: Delay = 10,
        max_running_actions: int = ACTIONS_MAX,
        quota: Quota[Any] | None = None,
        exit_when_stuck: bool = False,
        cron_activation: Activation = "automatic",
        clock: Clock | None = None,
    ) -> None:
        check_settings(synchronous, max_running_actions, auth, quota)
        self._db = database_path(db)
        self._create = create
        self._synchronous: Synchronous = synchronous
        self._lock_timeout_us = delay_us(lock_timeout, what="lock_timeout")
        self._grace_us = delay_us(grace, what="grace")
        self._slots = max_running_actions
        self._clock: Clock = clock if clock is not None else SystemClock()
        self._nonces: NonceSource = SystemNonces()
        self._auth = auth
        self._quota = quota
        self._on_stuck = _exit if exit_when_stuck else None
        self._registry = Registry()
        self._schema: list[SchemaStep] = []
        self._overrides: dict[Provider, Any] = {}
        self._window_max = WINDOW_MAX
        self._stuck_seconds = STUCK_SECONDS
        self._in_harness = False
        self._prunes = True
        self._ticks = True
        self._pools: dict[str, int] = {}
        self._hooks = Hooks()
        self._backups: set[asyncio.Future[Backup]] = set()
        self._engine: Engine | None = None
        self._booting = asyncio.Lock()
        self._ended = False
        self._make_store: Callable[..., SqliteStore] = SqliteStore
        self._scheduler = AppScheduler(self._running, self._started)
        self._crons = AppCrons(self._running, self._started, self._check_defining, cron_activation)
        self.include(*namespaces)

    # ------------------------------------------------------------ definitions

    def namespace(self, name: str, /, *, access: Access = "internal") -> Namespace[AuthT]:
        """Make a namespace and include it. Raises AlreadyStarted, NotRegistrable."""
        namespace: Namespace[AuthT] = Namespace(name, access=access)
        self.include(namespace)
        return namespace

    def include(self, *namespaces: Namespace[AuthT]) -> None:
        """Add the functions of these namespaces. Raises AlreadyStarted, NotRegistrable."""
        self._check_defining("include")
        for namespace in namespaces:
            self._registry.include(namespace)

    def schema(self, *sql: str | Path) -> None:
        """Declare the app's own tables, in steps: SQL text, a .sql file, or a folder of files 001_what.sql, 002_….

        Each step is applied once, when the app starts, in order, in one transaction.  Steps are only ever added: one
        that has changed since it was applied stops the start.  Raises AlreadyStarted, SchemaError.
        """
        self._check_defining("schema")
        for source in sql:
            if not isinstance(source, str | Path):
                msg = f"schema takes SQL text or a Path, not {type(source).__name__}"
                raise SchemaError(msg)
            self._schema.extend(read_steps(source))

    def pool(self, name: str, /, limit: int) -> None:
        """Declare a pool: its actions (`@….action(pool=name)`) run at most `limit` at once, together. 0 pauses them.

        Operators change the limit while the app runs (`app.scheduler.set_pool`).  Raises AlreadyStarted, InvalidArgs.
        """
        self._check_defining("pool")
        if type(limit) is not int or not 0 <= limit <= POOL_LIMIT_MAX:
            msg = f"a pool's limit is a whole number from 0 (paused) to {POOL_LIMIT_MAX}, not {limit!r:.40}"
            raise InvalidArgs(msg)
        if self._pools.setdefault(check_pool(name), limit) != limit:
            msg = f"pool {name!r} is declared twice, with different limits"
            raise InvalidArgs(msg)

    def on_dispatch(self, hook: HookT, /) -> HookT:
        """Call `hook(event)` whenever an attempt of a scheduled job starts. A decorator; plain or async.

        Hooks run on the event loop behind the jobs, one after the other.  What one raises is logged and hurts nobody.
        """
        return self._hook("dispatch", hook)

    def on_job_failed(self, hook: HookT, /) -> HookT:
        """Call `hook(event)` whenever an attempt has failed: for good, or with `event.retry_at` set."""
        return self._hook("failed", hook)

    def on_job_finished(self, hook: HookT, /) -> HookT:
        """Call `hook(event)` when a job that was started has ended: success, failed or canceled. Durable by then."""
        return self._hook("finished", hook)

    def _hook(self, moment: HookMoment, hook: HookT) -> HookT:
        self._check_defining(f"a hook ({moment})")
        if not callable(hook):
            msg = f"a hook is a function of one event, not {type(hook).__name__}"
            raise InvalidArgs(msg)
        self._hooks.add(moment, hook)
        return hook

    def _check_defining(self, what: str) -> None:
        if self._engine is not None:
            msg = f"{what} comes before the app starts"
            raise AlreadyStarted(msg)

    # ------------------------------------------------------------ use

    @property
    def scheduler(self) -> AppScheduler:
        """The app's scheduler. It may be taken before the app starts, and be used once it has."""
        return self._scheduler

    @property
    def crons(self) -> AppCrons:
        """The app's crons: defined before it starts; registered, changed, paused, run and looked at once it has."""
        return self._crons

    @overload
    def call(self, fn: Function[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(self, path: str, args: Args | None = None, /) -> Coroutine[Any, Any, Any]: ...
    def call(self, fn: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run a function now, on the path a scheduled run takes, and return what it returned.

        A mutation is durable when this returns.  Raises what the function raised; UnknownFunction, AccessDenied (for
        `system` functions) or InvalidArgs before anything ran; OutcomeUnknown when a commit's fate is not known.
        """
        return self._call(fn, args, kwargs, None, None)

    def acting_as(self, auth: AuthT, /) -> Caller:
        """Return a caller whose functions see this identity as `ctx.auth`: for a route that has resolved its user."""
        return BoundCaller(self._call, auth, None)

    def idempotent(self, key: str, /, *, auth: AuthT | None = None) -> Caller:
        """Return a caller whose mutation takes effect once under this key, however often it is sent.

        The first success answers every resend; a failure leaves nothing, so a resend runs.  The same key with other
        arguments is a KeyConflict.  For mutations only: WrongKind otherwise.
        """
        check_key(key, "an idempotency key")
        return BoundCaller(self._call, auth, key)

    async def _call(self, fn: Any, args: Any, kwargs: Any, auth: Any, once: str | None) -> Any:
        engine = self._started()
        path, named = engine.target(fn, args, kwargs)
        return await engine.call(path, named, _LOCAL, auth, once)

    async def backup(self, target: str | os.PathLike[str], /, *, overwrite: bool = False) -> Backup:
        """Copy the database, as it stands at one moment during this call, to a file of its own; the app goes on.

        Every call acknowledged before is in the copy, and no mutation by half.  It appears under its name once it is
        whole, checked and on disk.  Cancelling stops it, and nothing is left.  Raises InvalidArgs for a target that
        can't be one (it exists, and not `overwrite`), StoreFull when its disk is full, StoreUnavailable.
        """
        self._started().running().store.check_file()
        copying = asyncio.ensure_future(backup_aside(self._db.resolve(), Path(target), overwrite=overwrite))
        self._backups.add(copying)
        try:
            return await copying
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            msg = "the app was stopped while it was being copied; nothing is left of the copy"
            raise NotStarted(msg) from None
        finally:
            self._backups.discard(copying)

    @property
    def unready_reason(self) -> str | None:
        """Why the app does not accept and dispatch work right now, in one sentence; None while it does."""
        if self._engine is None:
            return "the app is not running"
        actor = self._engine.running().actor
        trouble = actor.stuck or actor.broken
        return str(trouble) if trouble is not None else None

    def asgi(self, *, prefix: str = "", http: Http | None = None) -> ASGIApp:
        """Return this app's HTTP surface: serve it alone, or mount it (`api.mount("/scheduler", app.asgi())`).

        Served alone it starts and stops the app; mounted, the outer application's lifespan does (`app.lifespan`).
        `http` says what is served, and to whom; without it the environment does: `Http.from_env()`.  `prefix` is put
        before every path, for a server that passes whole paths on.  Raises InvalidSecret, InvalidArgs.
        """
        from runtime.http.served import Served  # noqa: PLC0415 - whoever serves nothing shall not load it
        from runtime.http.surface import make_surface  # noqa: PLC0415

        served = Served(
            file=lambda: self._db,
            scheduler=self._scheduler,
            crons=self._crons,
            engine=self._started,
            functions=self._registry.functions,
            backup=self.backup,
            ensure_started=self._ensure_started,
            unready=lambda: self.unready_reason,
            clock=lambda: self._clock,
        )
        return make_surface(served, http, prefix, self.lifespan)

    async def _ensure_started(self) -> bool:
        """Start the app if it has not run yet. Return whether it had to be. Raises NotStarted once it was stopped."""
        if self._ended:
            self._started()
        async with self._booting:
            if self._engine is None:
                await self._start()
                return True
        return False

    # ------------------------------------------------------------ life

    def lifespan(self, asgi: object = None, /) -> AbstractAsyncContextManager[None]:
        """Return the app's life as a context manager: `FastAPI(lifespan=app.lifespan)`."""
        del asgi
        return self._lifespan()

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        if self._in_harness and self._engine is not None:
            yield  # the harness has started it, and stops it
            return
        async with self:
            yield

    async def __aenter__(self) -> Self:
        """Start: take the file, apply the schema, recover, and dispatch what fell due meanwhile.

        Raises DatabaseLocked, SchemaError, StoreUnavailable, NotRegistrable or InvalidCron: what is wrong, and of crons
        and functions all that is wrong.
        """
        await self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
        /,
    ) -> None:
        """Stop: take nothing new, let running actions end within the grace, finish what was accepted, close."""
        await self._stop()

    async def _start(self) -> None:
        if self._engine is not None:
            msg = "the app is running already"
            raise AlreadyStarted(msg)
        first = self._crons.first_unit(self._registry)
        routing = self._registry.routing(self._pools)
        engine = Engine(
            self._registry,
            self._clock,
            Providers(self._overrides),
            self._auth,
            self._nonces,
            self._hooks,
            routing,
            self._quota,
        )
        store = self._make_store(
            self._db,
            engine,
            self._clock,
            schema=tuple(self._schema),
            create=self._create,
            synchronous=self._synchronous,
            lock_timeout_us=self._lock_timeout_us,
            nonces=self._nonces,
        )
        actor = Actor(
            store,
            engine,
            self._clock,
            slots=self._slots,
            window_max=self._window_max,
            stuck_seconds=self._stuck_seconds,
            on_stuck=self._on_stuck,
            prunes=self._prunes,
            ticks=self._ticks,
            first=[first, CronTargets()],
        )
        engine.attach(actor, store)
        self._engine = engine  # before the actor starts: a due job may use the app at once
        try:
            await actor.start()
        except BaseException:
            self._engine = None
            raise
        staged, targets = actor.first_answers
        self._crons.started(staged, targets, self._registry)

    async def _stop(self, *, kill: bool = False) -> None:
        engine = self._engine
        if engine is None:
            return
        actor = engine.running().actor
        try:
            await self._stop_backups()
            if kill:
                await actor.kill()
            else:
                await actor.stop(self._grace_us)
        finally:
            self._engine = None
            self._ended = True
            await self._hooks.close(0 if kill else _HOOKS_SECONDS)
            await engine.close()

    async def _stop_backups(self) -> None:
        # A copy under way reads: the log could not be emptied before it ends.
        for copying in (copies := list(self._backups)):
            copying.cancel()
        if copies:
            await asyncio.wait(copies)

    def _started(self) -> Engine:
        if self._engine is None:
            msg = "the app is not running: enter its lifespan first (async with app, or FastAPI(lifespan=app.lifespan))"
            raise NotStarted(msg)
        return self._engine

    def _running(self) -> Running:
        return self._started().running()


def _exit() -> None:
    logging.getLogger("actor_scheduler").critical("ending the process: the writer is stuck (exit_when_stuck)")
    os._exit(70)
