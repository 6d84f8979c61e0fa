"""What goes out: JSON, and errors as JSON that say what a caller can do, and nothing about the inside."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from actor_scheduler.errors import (
    AccessDenied,
    FunctionError,
    InvalidArgs,
    InvalidCron,
    InvalidTime,
    KeyConflict,
    LimitExceeded,
    NotStarted,
    OutcomeUnknown,
    Overloaded,
    StoreFull,
    StoreUnavailable,
    TimedOut,
    TimeLimitExceeded,
    UnknownCron,
    UnknownFunction,
    WriterStuck,
    WrongKind,
    said,
)
from runtime.http.plain import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("actor_scheduler")

RETRY_SECONDS: Final = 1

_BY_CODE: Final = {
    "BAD_REQUEST": 400,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "CONFLICT": 409,
    "GONE": 410,
    "PRECONDITION_FAILED": 412,
    "PAYLOAD_TOO_LARGE": 413,
    "UNPROCESSABLE": 422,
    "TOO_MANY_REQUESTS": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
}

# The first class that fits says how; more special ones come first.
_BY_CLASS: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (InvalidCron, 400, "INVALID_CRON"),
    (UnknownCron, 404, "UNKNOWN_CRON"),
    (UnknownFunction, 404, "UNKNOWN_FUNCTION"),
    (AccessDenied, 403, "FORBIDDEN"),
    (WrongKind, 400, "WRONG_KIND"),
    (KeyConflict, 409, "KEY_CONFLICT"),
    (LimitExceeded, 400, "INVALID_ARGS"),
    (InvalidTime, 400, "INVALID_ARGS"),
    (InvalidArgs, 400, "INVALID_ARGS"),
    (Overloaded, 429, "OVERLOADED"),
    (TimedOut, 504, "TIMED_OUT"),
    (TimeLimitExceeded, 504, "TIMED_OUT"),
    (OutcomeUnknown, 503, "OUTCOME_UNKNOWN"),
    (NotStarted, 503, "UNAVAILABLE"),
    (StoreFull, 503, "UNAVAILABLE"),
    (StoreUnavailable, 503, "UNAVAILABLE"),
    (WriterStuck, 503, "UNAVAILABLE"),
)


class BodyFailed(Exception):
    """A function's body raised what, raised before it, would have been its caller's mistake."""


class Problem(Exception):
    """An answer that is an error: its status, its code and what is said of it."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.data = data
        self.headers = dict(headers or {})

    def response(self, request_id: str) -> Response:
        """Return it as an answer."""
        told: dict[str, Any] = {"code": self.code, "message": self.message, "request_id": request_id}
        if self.data is not None:
            told["data"] = self.data
        return answer({"error": told}, self.status, self.headers)


def answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a document as JSON. It holds nothing that JSON lacks: see plain.plain."""
    # Escaped to ASCII: a lone surrogate, which UTF-8 can't carry, is an escape then.
    body = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, dict(headers or {}), "application/json")


def problem_of(error: BaseException, request_id: str, *, trusted: bool = False) -> Problem:
    """Return what a caller is told of an error. What is not meant for callers goes to the log, under the request's id.

    The text of FunctionError, and of errors that a caller can do something about, travels; that of any other never
    leaves the server, but for `trusted` callers: operators.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, FunctionError):
        return _of_function(error)
    for kind, status, code in _BY_CLASS:
        if isinstance(error, kind):
            waits = {"Retry-After": str(RETRY_SECONDS)} if status in {429, 503} else {}
            if status >= 500:
                log.warning("request %s: %s: %s", request_id, code, said(error))
            return Problem(status, code, said(error), headers=waits)
    log.error("request %s failed", request_id, exc_info=error)
    message = "an internal error; the server's log has it under this request id"
    if trusted and not isinstance(error, BodyFailed):
        message = said(error)
    return Problem(500, "INTERNAL", message)


def _of_function(error: FunctionError) -> Problem:
    code = str(error.code)
    try:
        data = plain(dict(error.data)) if error.data is not None else None
    except (TypeError, ValueError, RecursionError):
        data = None
        log.warning("what %s carries has no form in JSON, so the caller does not get it", code, exc_info=True)
    return Problem(_BY_CODE.get(code, 400), code, str(error.message), data)
