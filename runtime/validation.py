"""A function's arguments: declared by its own type hints, validated with pydantic when scheduled and when run."""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Any, Final, NotRequired, Protocol, Required

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from actor_scheduler import codec
from actor_scheduler.errors import InvalidArgs, NotRegistrable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_core import SchemaSerializer

_PLAIN: Final = frozenset({str, int, bool, type(None)})  # values that are their own stored form
_SHOWN_ERRORS: Final = 5


class Validator(Protocol):
    """pydantic's validator of one type, or a plugin's wrapper around it."""

    def validate_python(self, value: Any, /) -> Any: ...


class Arguments:
    """The keyword arguments of one function: how they are bound, checked and stored."""

    def __init__(self, fn: Callable[..., Any], local_names: Mapping[str, Any]) -> None:
        self._fn = fn
        self._local_names = local_names
        self._signature = inspect.signature(fn)
        _, *parameters = self._signature.parameters.values()
        self._parameters = parameters
        self._names: Final = [parameter.name for parameter in parameters]
        self._validator: Validator | None = None
        self._serializer: SchemaSerializer | None = None

    def resolve(self) -> None:
        """Read the type hints now. Raises NotRegistrable, naming the function, when one can't be used."""
        if self._validator is None:
            self._build()

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return arguments by name, from a call's positional and keyword ones. Raises InvalidArgs."""
        if not args:
            return kwargs
        if len(args) > len(self._names):
            msg = f"{self._fn.__name__} takes {len(self._names)} argument(s) after ctx, {len(args)} were given"
            raise InvalidArgs(msg)
        named = dict(zip(self._names, args, strict=False))
        if doubled := named.keys() & kwargs.keys():
            msg = f"{self._fn.__name__} got {sorted(doubled)} twice"
            raise InvalidArgs(msg)
        return {**named, **kwargs}

    def validate(self, args: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Return the arguments as the function wants them. Raises InvalidArgs, naming each argument that is wrong."""
        validator = self._validator
        if validator is None:
            validator = self._build()
        try:
            validated: dict[str, Any] = validator.validate_python(args)
        except ValidationError as error:
            raise InvalidArgs(_explain(error, path)) from None
        except RecursionError as error:
            msg = f"{path}: the arguments are nested too deep"
            raise InvalidArgs(msg) from error
        return validated

    def freeze(self, args: Mapping[str, Any], path: str) -> bytes:
        """Return the arguments' stored form, once it is sure that they come back as they went in.

        Raises InvalidArgs when an argument is wrong, can't be stored, or would change on the way (a SecretStr, a field
        that is excluded from dumps, a subclass), LimitExceeded when they are too large.
        """
        validated = self.validate(args, path)
        serializer = self._serializer
        assert serializer is not None
        plain = validated
        if not all(type(value) in _PLAIN for value in validated.values()):
            plain = serializer.to_python(validated, mode="python", warnings=False)
        try:
            stored = codec.encode(plain)
        except InvalidArgs as error:
            error.args = (f"{path}: {error}",)
            raise
        again = self.validate(plain if plain is validated else codec.decode(stored), path)
        if again != validated:
            changed = sorted(name for name in validated if again.get(name) != validated[name])
            msg = f"{path}: argument(s) {changed} would change between scheduling and running: pass plain values"
            raise InvalidArgs(msg)
        return stored

    def returned(self, stored: Any) -> Any:
        """Return a stored result as the function's return hint has it; as it was stored where there is none."""
        hint = self.return_hint()
        if hint is None or stored is None:
            return stored
        try:
            return TypeAdapter(hint).validate_python(stored)
        except (ValidationError, PydanticUserError):
            return stored

    def return_hint(self) -> Any:
        """Return the resolved hint of what the function returns; None where it has none that can be resolved."""
        hint = self._signature.return_annotation
        if hint is inspect.Signature.empty:
            return None
        holder = types.SimpleNamespace(__annotations__={"return": hint})
        try:
            return typing.get_type_hints(holder, self._fn.__globals__, dict(self._local_names), include_extras=True)[
                "return"
            ]
        except NameError:
            return None

    def fits(self, args: Mapping[str, Any], path: str) -> bool:
        """Return whether these arguments can be scheduled."""
        try:
            self.freeze(args, path)
        except InvalidArgs:
            return False
        return True

    def hints_by_need(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the hints of the required arguments, and of those with a default."""
        hints = self._hints()
        required: dict[str, Any] = {}
        optional: dict[str, Any] = {}
        for parameter in self._parameters:
            needed = parameter.default is inspect.Parameter.empty
            (required if needed else optional)[parameter.name] = hints.get(parameter.name, Any)
        return required, optional

    # ------------------------------------------------------------ from type hints to a validator

    def _build(self) -> Validator:
        required, optional = self.hints_by_need()
        fields: dict[str, Any] = {name: Required[hint] for name, hint in required.items()}
        fields.update({name: NotRequired[hint] for name, hint in optional.items()})
        make: Any = TypedDict  # from the signature, at run time: no type checker can follow
        shape = make("Arguments", fields)
        shape.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
        try:
            adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(shape)
        except (PydanticUserError, TypeError) as error:
            msg = f"{self._fn.__qualname__}: an argument's type can't be validated: {error}"
            raise NotRegistrable(msg) from error
        if not adapter.pydantic_complete:
            msg = f"{self._fn.__qualname__}: an argument's type names something that is not defined yet"
            raise NotRegistrable(msg) from NameError(msg)
        self._serializer = adapter.serializer
        self._validator = adapter.validator
        return self._validator

    def _hints(self) -> dict[str, Any]:
        """Return the resolved hints of everything but ctx (whose class may well be imported for type checkers only)."""
        annotations = {
            parameter.name: parameter.annotation
            for parameter in self._parameters
            if parameter.annotation is not inspect.Parameter.empty
        }
        holder = types.SimpleNamespace(__annotations__=annotations)
        try:
            return typing.get_type_hints(
                holder,
                self._fn.__globals__,
                dict(self._local_names),
                include_extras=True,
            )
        except NameError as error:
            msg = f"{self._fn.__qualname__}: the type hint of an argument names something unknown: {error}"
            raise NotRegistrable(msg) from error


def check_signature(fn: Callable[..., Any]) -> None:
    """Refuse a function that could never run as a query, mutation or action. Raises NotRegistrable, saying why."""
    name = getattr(fn, "__qualname__", repr(fn))
    if inspect.isasyncgenfunction(fn) or not inspect.iscoroutinefunction(fn):
        msg = f"{name} must be an `async def` (and no generator): a function is awaited"
        raise NotRegistrable(msg)
    parameters = list(inspect.signature(fn).parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):  # fmt: skip
        msg = f"{name} must take ctx as its first parameter"
        raise NotRegistrable(msg)
    if parameters[0].name in ("self", "cls"):
        msg = f"{name} is a method: register a plain function of a module"
        raise NotRegistrable(msg)
    for parameter in parameters[1:]:
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            msg = f"{name} takes *{parameter.name}: arguments are stored and validated one by one, so each needs a name"
            raise NotRegistrable(msg)
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            msg = f"{name} takes {parameter.name} by position only: arguments are keyword arguments"
            raise NotRegistrable(msg)
        if type(parameter.default).__module__.startswith(("fastapi.", "starlette.", "litestar.")):
            msg = f"{name}: {parameter.name} is a framework dependency, which only a route gets; use ctx.use(…)"
            raise NotRegistrable(msg)


def _explain(error: ValidationError, path: str) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in problems]
    more = f" (and {len(shown) - _SHOWN_ERRORS} more)" if len(shown) > _SHOWN_ERRORS else ""
    return f"{path}: {'; '.join(shown[:_SHOWN_ERRORS])}{more}"
