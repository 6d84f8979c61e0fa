"""Which HTTP status an error becomes. A client may send again what got a 503; anything else is final."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from runtime import FunctionError, KeyConflict, NotStarted, OutcomeUnknown, Overloaded, StoreUnavailable, WriterStuck

_STATUS: Final = {"BAD_REQUEST": 400, "FORBIDDEN": 403, "NOT_FOUND": 404, "CONFLICT": 409}

# Not done, or not known to be done. A resend with the same Idempotency-Key is safe in either case.
_SEND_AGAIN: Final = (NotStarted, OutcomeUnknown, Overloaded, StoreUnavailable, WriterStuck)


def answer_errors(api: FastAPI) -> None:
    """Let functions fail on purpose, and the scheduler refuse, in terms of HTTP."""
    api.add_exception_handler(FunctionError, _function_error)
    api.add_exception_handler(KeyConflict, _key_conflict)
    for error in _SEND_AGAIN:
        api.add_exception_handler(error, _send_again)


async def _function_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FunctionError)
    return JSONResponse({"code": error.code, "message": error.message}, _STATUS.get(error.code, 400))


async def _key_conflict(_: Request, __: Exception) -> JSONResponse:
    message = "this Idempotency-Key was used for another order"
    return JSONResponse({"code": "KEY_CONFLICT", "message": message}, 422)


async def _send_again(_: Request, __: Exception) -> JSONResponse:
    body = {"code": "UNAVAILABLE", "message": "please send this again"}
    return JSONResponse(body, 503, headers={"Retry-After": "1"})
