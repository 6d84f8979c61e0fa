"""Functions and namespaces: what the decorators make."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, overload

from typing_extensions import TypeVar as DefaultTypeVar

from actor_scheduler.call import Call
from actor_scheduler.errors import InvalidArgs, NotRegistrable
from actor_scheduler.limits import PATH_CHARS_MAX
from runtime.policy import Policy, make_policy
from runtime.validation import Arguments, check_signature

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import timedelta

    from actor_scheduler.model import Kind
    from actor_scheduler.retry import Retry
    from actor_scheduler.times import Delay
    from runtime.context import ActionCtx, MutationCtx, QueryCtx
    from runtime.invoker import Access

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
AuthT = DefaultTypeVar("AuthT", default=Any)

_NAMESPACE: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", re.ASCII)
_FUNCTION: Final = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)
_ACCESS: Final = frozenset({"public", "internal", "system"})


class Function(Generic[P, R_co]):
    """One registered function. `fn(ctx, …)` runs its plain body in the caller's own transaction."""

    kind: Kind

    def __init__(
        self,
        body: Callable[..., Coroutine[Any, Any, R_co]],
        path: str,
        access: Access,
        policy: Policy,
        aliases: tuple[str, ...],
        arguments: Arguments,
    ) -> None:
        self.body: Final = body
        self.path: Final = path
        self.access: Final[Access] = access
        self.policy: Final = policy
        self.aliases: Final = aliases
        self.arguments: Final = arguments
        self.__name__ = body.__name__
        self.__qualname__ = body.__qualname__
        self.__doc__ = body.__doc__
        self.__module__ = body.__module__
        self.__wrapped__ = body

    def __repr__(self) -> str:
        """Show kind and path."""
        return f"<{self.kind} {self.path}>"


class Schedulable(Function[P, R_co]):
    """A mutation or an action. A query is not one, so scheduling a query is a type error."""

    def bind(self, /, *args: P.args, **kwargs: P.kwargs) -> Call[R_co]:
        """Return a call of this function with these arguments. Raises InvalidArgs for too many or doubled ones."""
        return Call(self.path, self.arguments.bind(args, dict(kwargs)), function=self)


class Query(Function[P, R_co]):
    """A function that only reads, in one snapshot."""

    kind: Literal["query"] = "query"

    async def __call__(self, ctx: QueryCtx[Any], /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the plain body with the caller's ctx."""
        return await self.body(ctx, *args, **kwargs)


class Mutation(Schedulable[P, R_co]):
    """A function whose writes and scheduled jobs commit in one transaction, or not at all."""

    kind: Literal["mutation"] = "mutation"

    async def __call__(self, ctx: MutationCtx[Any], /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the plain body with the caller's ctx."""
        return await self.body(ctx, *args, **kwargs)


class Action(Schedulable[P, R_co]):
    """A function that may do anything. Scheduled, it is started at most once."""

    kind: Literal["action"] = "action"

    async def __call__(self, ctx: ActionCtx[Any], /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Run the plain body with the caller's ctx."""
        return await self.body(ctx, *args, **kwargs)


class QueryDecorator(Protocol[AuthT]):
    """`@namespace.query(…)` with options."""

    def __call__(self, fn: Callable[Concatenate[QueryCtx[AuthT], P], Coroutine[Any, Any, R]], /) -> Query[P, R]: ...


class MutationDecorator(Protocol[AuthT]):
    """`@namespace.mutation(…)` with options."""

    def __call__(
        self,
        fn: Callable[Concatenate[MutationCtx[AuthT], P], Coroutine[Any, Any, R]],
        /,
    ) -> Mutation[P, R]: ...


class ActionDecorator(Protocol[AuthT]):
    """`@namespace.action(…)` with options."""

    def __call__(self, fn: Callable[Concatenate[ActionCtx[AuthT], P], Coroutine[Any, Any, R]], /) -> Action[P, R]: ...


class Namespace(Generic[AuthT]):
    """A group of functions, free-standing like an APIRouter: `posts = Namespace("posts")`, then `app.include(posts)`.

    `access` is the default of its functions.  Raises NotRegistrable for a name that can't be the first half of a path.
    """

    def __init__(self, name: str, /, *, access: Access = "internal") -> None:
        if not isinstance(name, str) or not _NAMESPACE.fullmatch(name):
            msg = f"namespace {name!r} must be lower-case letters, digits and _, with dots between parts"
            raise NotRegistrable(msg)
        self.name: Final = name
        self.functions: Final[dict[str, Function[..., Any]]] = {}  # by path, aliases included
        self._access: Final = _check_access(access, name)

    @overload
    def query(self, fn: Callable[Concatenate[QueryCtx[AuthT], P], Coroutine[Any, Any, R]], /) -> Query[P, R]: ...
    @overload
    def query(
        self,
        /,
        *,
        name: str | None = None,
        access: Access | None = None,
        timeout: Delay | None = None,
        aliases: Sequence[str] = (),
    ) -> QueryDecorator[AuthT]: ...
    def query(self, fn: Any = None, /, **options: Any) -> Any:
        """Register a function that only reads. `timeout` limits its SQL (10 s unless given)."""
        return self._register(Query, fn, options)

    @overload
    def mutation(
        self,
        fn: Callable[Concatenate[MutationCtx[AuthT], P], Coroutine[Any, Any, R]],
        /,
    ) -> Mutation[P, R]: ...
    @overload
    def mutation(
        self,
        /,
        *,
        name: str | None = None,
        access: Access | None = None,
        timeout: Delay | None = None,
        retry: Retry | int | None = None,
        keep: timedelta | None = None,
        aliases: Sequence[str] = (),
    ) -> MutationDecorator[AuthT]: ...
    def mutation(self, fn: Any = None, /, **options: Any) -> Any:
        """Register a function that writes, in one transaction. `timeout` limits its SQL (10 s unless given).

        Scheduled, a failure is final unless `retry` says otherwise; trouble of the store (a full disk, a lock) is never
        its failure.  `keep` is how long its ended jobs are kept (7 days; `timedelta.max`: for ever).
        """
        return self._register(Mutation, fn, options)

    @overload
    def action(self, fn: Callable[Concatenate[ActionCtx[AuthT], P], Coroutine[Any, Any, R]], /) -> Action[P, R]: ...
    @overload
    def action(
        self,
        /,
        *,
        name: str | None = None,
        access: Access | None = None,
        timeout: Delay | None = None,
        retry: Retry | int | None = None,
        concurrency: int | None = None,
        pool: str | None = None,
        rate: str | None = None,
        keep: timedelta | None = None,
        aliases: Sequence[str] = (),
    ) -> ActionDecorator[AuthT]: ...
    def action(self, fn: Any = None, /, **options: Any) -> Any:
        """Register a function with effects outside the database. Scheduled, it is started at most once.

        `retry` opts into further attempts: then it is started at least once.  After `timeout` an attempt is canceled
        (failed: timeout).  Of its scheduled runs at most `concurrency` go on at once, and at most `rate` ("10/s")
        start; `pool` is a limit shared with other actions (`app.pool(name, limit)`).  `keep` as for mutations.
        """
        return self._register(Action, fn, options)

    def _register(self, make: type[Function[..., Any]], fn: Any, options: dict[str, Any]) -> Any:
        # The names around the decorated function: a hint may be a class of the function that defines it.
        local_names = dict(sys._getframe(2).f_locals)  # noqa: SLF001 - the only way to see a caller's locals
        if fn is not None:
            return self._make(make, fn, local_names)
        return lambda fn: self._make(make, fn, local_names, **options)

    def _make(
        self,
        make: type[Function[..., Any]],
        fn: Any,
        local_names: dict[str, Any],
        *,
        name: str | None = None,
        access: Access | None = None,
        aliases: Sequence[str] = (),
        **policy: Any,
    ) -> Function[..., Any]:
        if isinstance(fn, Function):
            msg = f"{fn!r} is registered already: one function has one kind"
            raise NotRegistrable(msg)
        check_signature(fn)
        path = f"{self.name}:{name if name is not None else fn.__name__}"
        check_path(path)
        if isinstance(aliases, str):
            msg = f"{path}: aliases is a sequence of paths, not one str"
            raise NotRegistrable(msg)
        for alias in aliases:
            check_path(alias)
        if path in self.functions:
            msg = f"{path} is registered twice"
            raise NotRegistrable(msg)
        made = make_policy(make.kind, policy)
        arguments = Arguments(fn, local_names)
        try:
            arguments.resolve()
        except NotRegistrable as error:
            # A name defined further down in the module is looked up again when the app starts.
            if not isinstance(error.__cause__, NameError):
                raise
        access = _check_access(access, path) if access is not None else self._access
        function = make(fn, path, access, made, tuple(aliases), arguments)
        self.functions[path] = function
        return function


def check_path(path: str) -> None:
    """Raise NotRegistrable unless a path reads `namespace:function`."""
    namespace, _, name = path.partition(":")
    if len(path) > PATH_CHARS_MAX or not _NAMESPACE.fullmatch(namespace) or not _FUNCTION.fullmatch(name):
        msg = f"{path!r} is not a path: it reads namespace:function, at most {PATH_CHARS_MAX} characters"
        raise NotRegistrable(msg)


def _check_access(access: Access, what: str) -> Access:
    if access not in _ACCESS:
        msg = f"{what}: access must be one of {sorted(_ACCESS)}, not {access!r}"
        raise NotRegistrable(msg)
    return access


def path_of(target: Function[..., Any] | str) -> str:
    """Return the path of a function, given as itself or as its path. Raises InvalidArgs for anything else."""
    if isinstance(target, Function):
        return target.path
    if isinstance(target, str):
        return target
    msg = f"give a registered function or its 'namespace:function' path, not {type(target).__name__}"
    raise InvalidArgs(msg)
