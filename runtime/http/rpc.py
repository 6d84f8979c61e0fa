"""Calls over HTTP: `POST /rpc/{namespace:function}` runs a public function for a client."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import re
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, Secret, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python
from starlette.responses import Response

from actor_scheduler.errors import KeyConflict
from actor_scheduler.limits import KEY_CHARS_MAX, PATH_CHARS_MAX, RESOLVER_US_MAX
from runtime.http.answers import Problem
from runtime.http.plain import plain
from runtime.http.reading import parse_json, read_body
from runtime.http.routes import Route
from runtime.invoker import RpcInvoker, may_call
from runtime.waiting import within

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from runtime.http.routes import Visit

log = logging.getLogger("actor_scheduler")

# A path is a key into the table of functions, and never anything else: it is not imported, and not looked up otherwise.
_PATH: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*:[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_KEY: Final = re.compile(rf"[!-~]{{1,{KEY_CHARS_MAX}}}")
_ONLY_ONCE: Final = ("authorization", "idempotency-key")
_OF_TOKEN: Final = frozenset({"exp", "iat", "nbf", "jti", "auth_time"})  # claims of one token, not of whose it is
_INVOKER: Final = RpcInvoker()


async def call(visit: Visit) -> Response:
    """Run a public function and answer with what it returned. A mutation is durable by then.

    Who calls is asked first, before anything of the request is looked at but its headers.  A path of no function and
    one of a function that is not public get the same answer, after the same work.  A client that goes away stops
    nothing: what was begun ends.
    """
    request, served = visit.request, visit.served
    headers = request.headers
    _check_headers(headers)
    engine = served.engine()
    auth = None
    if engine.prepares:  # the app has a resolver
        asked = served.principal(_INVOKER, headers)
        auth = await within(engine.clock, RESOLVER_US_MAX, asked, "the auth resolver did not answer")
    path: str = request.path_params["path"]
    known = len(path) <= PATH_CHARS_MAX and _PATH.fullmatch(path) is not None and engine.registry.has(path)
    if not known or not may_call(_INVOKER, engine.registry.resolve(path).access):
        raise Problem(404, "UNKNOWN_FUNCTION", "no public function is registered under this path")
    body = await read_body(request, visit.http.body_max, visit.http.body_seconds)
    args = parse_json(body) if body.strip() else {}
    if not isinstance(args, dict):
        raise Problem(400, "INVALID_BODY", "the body is one JSON object: the function's arguments by name")
    key = headers.get("idempotency-key")
    once = None if key is None else _scoped(key, auth)
    try:
        value = await served.rpc(path, args, auth, once)
    except KeyConflict as conflict:
        raise _conflict(conflict, once) from conflict
    return _result(path, value)


def _check_headers(headers: Headers) -> None:
    """Refuse headers that two readers could take to mean two things. Raises Problem (400)."""
    for name in _ONLY_ONCE:
        if len(headers.getlist(name)) > 1:
            raise Problem(400, "BAD_REQUEST", f"the header {name} stands there more than once")
    key = headers.get("idempotency-key")
    if key is not None and _KEY.fullmatch(key) is None:
        raise Problem(400, "BAD_REQUEST", f"an Idempotency-Key is 1 to {KEY_CHARS_MAX} printable ASCII characters")


# ------------------------------------------------------------------ idempotency keys


def _scoped(key: str, auth: Any) -> str:
    """Return the key under which a call is recorded: one caller's keys are never another's.

    The caller is all that the resolver returned, but for the claims that change from token to token.
    """
    try:
        who = _identity(auth)
        if isinstance(who, dict) and "sub" in who:
            who = {name: value for name, value in who.items() if name not in _OF_TOKEN}
        scope = json.dumps([type(auth).__qualname__, who, key], sort_keys=True)
    except (PydanticSerializationError, TypeError, ValueError, RecursionError):
        log.exception("an Idempotency-Key was refused: the auth resolver returned what can't be told apart")
        message = "this app does not take an Idempotency-Key: it can't tell its callers apart"
        raise Problem(400, "BAD_REQUEST", message) from None
    return f"rpc:{hashlib.sha256(scope.encode()).hexdigest()}"


def _identity(value: Any) -> Any:
    """Return a value as JSON that is the same in every process: a set has an order of its own in each."""
    if isinstance(value, BaseModel):
        return {name: _identity(each) for name, each in value}
    if isinstance(value, SecretStr | SecretBytes | Secret):  # else they would all be the same asterisks
        return _identity(value.get_secret_value())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _identity(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): _identity(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_identity(each) for each in value), key=json.dumps)
    if isinstance(value, list | tuple):
        return [_identity(each) for each in value]
    return to_jsonable_python(value, bytes_mode="base64")


def _conflict(conflict: KeyConflict, once: str | None) -> Exception:
    """Return the error in terms of the key that the client sent."""
    ours = f"idempotency_key {once!r}"
    if once is None or ours not in str(conflict):
        return conflict
    return Problem(409, "KEY_CONFLICT", str(conflict).replace(ours, "this Idempotency-Key"))


# ------------------------------------------------------------------ results


def _result(path: str, value: Any) -> Response:
    """Return what a function returned as an answer. Raises Problem when JSON has no form for it."""
    try:
        body = json.dumps({"result": shown(value)}, allow_nan=False, separators=(",", ":"))
    except (PydanticSerializationError, TypeError, ValueError, RecursionError):
        log.exception("%s returned a %s, which can't be shown as JSON", path, type(value).__name__)
        message = "the call took effect; what it returned can't be shown as JSON"
        raise Problem(500, "RESULT_NOT_JSON", message) from None
    return Response(body.encode(), media_type="application/json")


def shown(value: Any) -> Any:
    """Return what a function returned as JSON can carry it: as pydantic writes it, but nothing is lost.

    Bytes outside of models are {"$bytes": base64}, floats that are no numbers {"$float": "nan" | "inf" | "-inf"}.
    Raises TypeError, ValueError or pydantic's error for what has no such form.
    """
    if value is None or type(value) in {str, bool, int}:
        return value
    if isinstance(value, float | bytes | bytearray | memoryview):
        return plain(value)
    if isinstance(value, BaseModel) or hasattr(value, "__pydantic_serializer__"):
        return _finite(to_jsonable_python(value))
    if isinstance(value, Mapping):
        return {_key(key): shown(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        return [shown(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: shown(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _finite(to_jsonable_python(value))


def _key(key: Any) -> str:
    return key if type(key) is str else next(iter(to_jsonable_python({key: None})))


def _finite(value: Any) -> Any:
    """Return a value of JSON without floats that are no numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        return plain(value)
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list) else value


ROUTES: Final = (
    Route(
        method="POST",
        path="/rpc/{path}",
        door="rpc",
        handler=call,
        summary="Call a public function",
        answers={200: "what the function returned"},
    ),
)
