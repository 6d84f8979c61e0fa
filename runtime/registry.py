"""Which functions an app has: a table filled before it starts, never an import of what a request names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.errors import AccessDenied, NotRegistrable, UnknownFunction, WrongKind
from actor_scheduler.limits import PATH_CHARS_MAX
from actor_scheduler.queues import Limit, Routing
from runtime.invoker import Invoker, may_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from actor_scheduler.model import Args, Kind
    from runtime.functions import Function, Namespace
    from runtime.policy import Policy


_A: Final = {"query": "a query", "mutation": "a mutation", "action": "an action"}


class Registry:
    """The functions of all included namespaces, by path and by alias."""

    def __init__(self) -> None:
        self._namespaces: dict[str, Namespace[Any]] = {}
        self._aliases: dict[str, Function[..., Any]] = {}
        self._found: dict[str, Function[..., Any]] = {}  # functions are never taken away: once found, always found

    def include(self, namespace: Namespace[Any]) -> None:
        """Add a namespace. Raises NotRegistrable when its name is taken by another one."""
        if self._namespaces.setdefault(namespace.name, namespace) is not namespace:
            msg = f"two namespaces are called {namespace.name!r}"
            raise NotRegistrable(msg)

    def functions(self) -> Iterable[Function[..., Any]]:
        """Return every function, in order of definition."""
        return [function for namespace in self._namespaces.values() for function in namespace.functions.values()]

    def check(self) -> None:
        """Resolve every type hint and alias. Raises NotRegistrable with all that is wrong, at one go."""
        problems: list[str] = []
        self._found = {}
        self._aliases = {}
        for function in self.functions():
            try:
                function.arguments.resolve()
            except NotRegistrable as error:
                problems.append(str(error))
            for alias in function.aliases:
                if self._find(alias) is not None or alias in self._aliases:
                    problems.append(f"alias {alias} of {function.path} is taken by another function")
                self._aliases[alias] = function
        if problems:
            raise NotRegistrable("; ".join(problems))

    def routing(self, pools: Mapping[str, int]) -> Routing:
        """Return where jobs of these functions wait. Raises NotRegistrable for a pool nobody declared."""
        bases: dict[str, str] = {}
        passes: dict[str, tuple[str, ...]] = {f"pool:{name}": (f"pool:{name}",) for name in pools}
        gates: dict[str, Limit] = {f"pool:{name}": limit for name, limit in pools.items()}
        for function in self.functions():
            policy, path = function.policy, function.path
            if policy.pool is not None and policy.pool not in pools:
                msg = f"{path} is in pool {policy.pool!r}, which the app does not declare: app.pool({policy.pool!r}, …)"
                raise NotRegistrable(msg)
            through = [f"pool:{policy.pool}"] if policy.pool is not None else []
            if policy.concurrency is not None:
                gates[f"fn:{path}"] = policy.concurrency
                through.append(f"fn:{path}")
            if policy.rate is not None:
                gates[f"rate:{path}"] = policy.rate
                through.append(f"rate:{path}")
            if through:  # the last is the function's own, where it has limits of its own
                passes[through[-1]] = tuple(through)
                bases.update(dict.fromkeys((path, *function.aliases), through[-1]))
        return Routing(bases, passes, gates)

    def resolve(self, path: str, *, kind: Kind | None = None, invoker: Invoker | None = None) -> Function[..., Any]:
        """Return the function under a path, if it is of this kind and the invoker may call it.

        Raises UnknownFunction (with the nearest name), WrongKind or AccessDenied.
        """
        function = self._find(path) or self._aliases.get(path)
        if function is None:
            raise UnknownFunction(self._unknown(path))
        if kind is not None and function.kind != kind:
            msg = f"{path} is {_A[function.kind]}, not {_A.get(kind, kind)}: use run_{function.kind} where ctx has it"
            raise WrongKind(msg)
        if invoker is not None and not may_call(invoker, function.access):
            msg = f"{path} has access={function.access!r}, so it can't be called by {invoker.source}"
            raise AccessDenied(msg)
        return function

    def has(self, path: str) -> bool:
        """Return whether a function has this path, or this alias."""
        return self._find(path) is not None or path in self._aliases

    def policy(self, path: str) -> Policy | None:
        """Return the policy of the function under a path; None when there is none."""
        function = self._find(path) or self._aliases.get(path)
        return function.policy if function is not None else None

    def _find(self, path: str) -> Function[..., Any] | None:
        function = self._found.get(path)
        if function is None:
            namespace = self._namespaces.get(path.partition(":")[0])
            function = namespace.functions.get(path) if namespace is not None else None
            if function is not None:
                self._found[path] = function
        return function

    def _unknown(self, path: str) -> str:
        told = f"{path!r:.{2 * PATH_CHARS_MAX}}"
        known = [function.path for function in self.functions()]
        near = difflib.get_close_matches(path, known, 1) if len(path) <= PATH_CHARS_MAX else []
        if near:
            return f"no function is registered as {told}: did you mean {near[0]!r}?"
        return f"no function is registered as {told}: is its namespace included (app.include(…))?"

    def paths(self, path: str) -> tuple[str, ...]:
        """Return every path of the function that has this one, or just this one when there is none."""
        function = self._find(path) or self._aliases.get(path)
        return (path,) if function is None else (function.path, *function.aliases)

    def schedulable(self, path: str, args: Args, bound: object) -> tuple[str, Kind, bytes]:
        """Return what the scheduler stores of a call: canonical path, kind, arguments.

        Raises UnknownFunction, WrongKind for a query, InvalidArgs or LimitExceeded.
        """
        function = self._find(path)
        if function is None:
            function = self.resolve(path)
        if bound is not None and bound is not function:
            msg = f"{bound!r} is not this app's function of that path: include its namespace"
            raise UnknownFunction(msg)
        if function.kind == "query":
            msg = f"{path} is a query: it changes nothing, so it can't be scheduled; schedule a mutation or an action"
            raise WrongKind(msg)
        return function.path, function.kind, function.arguments.freeze(args, path)
