"""Errors as problem+json (RFC 9457), with the stable codes of the exception tree.

What is the client's to mend is told in full; the server's own trouble is told by its code alone and
goes to the log in full. What passes by itself is 503 with Retry-After.
"""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from omnilytics.api.limits import TooManyRequestsError
from omnilytics.foundation.errors import (
    ChainError,
    ConflictError,
    MalformedError,
    OmniLyticsError,
    PeerError,
    UsageError,
    VerificationError,
)
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.transport.parts import UPLOAD_OFFSET

PROBLEM_TYPE = "application/problem+json"
ERROR_KEY = "omnilytics.error"
"""Where a request's scope keeps the error that it ended with, for the log."""
RETRY_AFTER_SECONDS = 2
NO_TASK = "no such task"
"""What the market says of a task that was never created."""
CLIENT_LEFT = 499
"""For log and metrics alone: what nginx calls a request whose client closed the connection."""


class NotFoundError(OmniLyticsError):
    """Content that this server does not have."""

    code = "not-found"


class TooLargeError(MalformedError):
    """A body with more bytes than the route takes."""

    code = "too-large"


class MediaTypeError(OmniLyticsError):
    """A body of a type that this version does not take."""

    code = "media-type"


class NotAcceptableError(OmniLyticsError):
    """A request that takes no answer of the type that this version gives."""

    code = "not-acceptable"


class BusyError(OmniLyticsError):
    """More requests at a time than the server takes; the same request succeeds later."""

    code = "busy"
    exit_code = 7


class SlowBodyError(OmniLyticsError):
    """A body that takes longer to arrive than the server waits."""

    code = "slow-body"
    exit_code = 9


_STATUS: tuple[tuple[type[OmniLyticsError], int], ...] = (
    (NotFoundError, 404),
    (SlowBodyError, 408),
    (TooLargeError, 413),
    (MalformedError, 400),
    (ConflictError, 409),
    (NotAcceptableError, 406),
    (MediaTypeError, 415),
    (VerificationError, 403),
    (UsageError, 400),
    (TooManyRequestsError, 429),
    (BusyError, 503),
    (PeerError, 503),
    (ChainError, 503),
    (StorageUnavailableError, 503),
)


def add_problem_handlers(application: FastAPI) -> None:
    """Make every error of the application a problem+json answer."""
    application.add_exception_handler(OmniLyticsError, _problem)
    application.add_exception_handler(RequestValidationError, _bad_parameter)
    application.add_exception_handler(HTTPException, _no_route)
    application.add_exception_handler(ClientDisconnect, _client_left)
    application.add_exception_handler(Exception, _defect)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OmniLyticsError)
    if isinstance(error, ChainError) and error.message == NO_TASK:
        error = NotFoundError(NO_TASK)  # no trouble of the chain's: it does not pass
    request.scope[ERROR_KEY] = error
    return _answer(error, next((code for kind, code in _STATUS if isinstance(error, kind)), 500))


async def _bad_parameter(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    return _answer(MalformedError(f"{place}: {first['msg']}"), 400)


async def _no_route(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = _answer(NotFoundError(error.detail), error.status_code)
    answer.headers.update(error.headers or {})  # Allow, with 405
    return answer


async def _client_left(_request: Request, _error: Exception) -> Response:
    """End a request that its client cut off; the connection is closed, nobody reads this."""
    return Response(status_code=CLIENT_LEFT)


async def _defect(_request: Request, _error: Exception) -> JSONResponse:
    return _answer(OmniLyticsError("the server failed on this request"), 500)


def _headers(error: OmniLyticsError, status: int) -> dict[str, str]:
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(error.ids.get("retry_after_seconds", RETRY_AFTER_SECONDS))
    if isinstance(error, MediaTypeError):
        headers["Accept"] = str(error.want)
    if "upload_offset" in error.ids:
        headers[UPLOAD_OFFSET] = str(error.ids["upload_offset"])
    return headers


def _answer(error: OmniLyticsError, status: int) -> JSONResponse:
    body = {"type": f"urn:omnilytics:{error.code}", "title": error.message, "status": status}
    details = error.as_dict() if status < 500 else {"code": error.code}  # own trouble stays in logs
    body |= {name: value for name, value in details.items() if name != "message"}
    headers = _headers(error, status)
    return JSONResponse(body, status_code=status, media_type=PROBLEM_TYPE, headers=headers)
