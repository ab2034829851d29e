"""What OpenAPI says of the routes: bodies, answers, problems, and what may be asked next."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from omnilytics.api.problems import PROBLEM_TYPE
from omnilytics.transport.client import MEDIA_TYPE
from omnilytics.transport.parts import CONTENT_RANGE, UPLOAD_OFFSET

Responses = dict[int | str, dict[str, Any]]

_BINARY: dict[str, Any] = {}
"""OpenAPI 3.1 says of raw bytes only their media type."""
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457, with stable codes; identifiers such as task may be added, as text.",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:omnilytics:[a-z-]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "code": {"type": "string", "pattern": "^[a-z-]+$"},
        "got": {"type": "string"},
        "want": {"type": "string"},
        "hint": {"type": "string"},
    },
    "additionalProperties": {"type": "string"},
}
_TEXT = {
    400: "Bytes, a path or a query of the wrong form.",
    403: "A check failed: signature, time, deadline, admission.",
    404: "No such task, or no such content here.",
    406: "The request takes no answer of this version's type.",
    408: "The body took too long to arrive.",
    409: "Something else was taken first; a repeat of that gets the first answer again.",
    413: "The body is larger than the route takes.",
    415: "The body is not of this version's type.",
    429: "Too many requests; Retry-After says when to come again.",
    500: "A defect or a broken store; the log of the server says more.",
    503: "A peer, the chain or the store does not serve now, or too much is under way.",
}
_SECONDS = {"schema": {"type": "integer", "minimum": 0}, "description": "In seconds."}
_ALWAYS = (400, 403, 404, 406, 429, 500, 503)
WITH_BODY = (408, 413, 415)
_OFFSET = {"schema": {"type": "integer", "minimum": 0}, "description": "Bytes that are here."}
UPLOAD_ANSWER: dict[str, Any] = {
    "description": "The part is stored; the upload is not whole.",
    "headers": {UPLOAD_OFFSET: {**_OFFSET, "required": True}},
}


def describe_body(what: str, *, required: bool = True) -> dict[str, Any]:
    """Return the documentation of a request's body, for `openapi_extra`."""
    content = {MEDIA_TYPE: {"schema": _BINARY}}
    return {"requestBody": {"description": what, "required": required, "content": content}}


def answers(
    what: str, *problems: int, links: dict[str, Any] | None = None, in_parts: bool = False
) -> Responses:
    """Return the documentation of a route that answers 200 with content, or 206 with a part."""
    content = {MEDIA_TYPE: {"schema": _BINARY}}
    success: dict[str, Any] = {"description": what, "content": content}
    part: Responses = {}
    if in_parts:
        headers = {CONTENT_RANGE: {"schema": {"type": "string"}, "required": True}}
        part = {206: {"description": "The part asked for.", "content": content, "headers": headers}}
    return {200: success | ({"links": links} if links else {}), **part, **_problems(problems)}


def done(what: str, *problems: int, links: dict[str, Any] | None = None) -> Responses:
    """Return the documentation of a route that answers 204."""
    success: dict[str, Any] = {"description": what}
    return {204: success | ({"links": links} if links else {}), **_problems(problems)}


def link(operation: str, *names: str, **parameters: str) -> dict[str, Any]:
    """Return a link to an operation that takes the same path parameters, and these besides."""
    same = {name: f"$request.path.{name}" for name in names}
    return {"operationId": operation, "parameters": same | parameters}


def operation_id(route: APIRoute) -> str:
    """Return the name by which links call a route."""
    return route.name


def document(application: FastAPI) -> None:
    """Make the application's OpenAPI document say what is true of problems."""

    def openapi() -> dict[str, Any]:
        if application.openapi_schema is None:
            schema = get_openapi(
                title=application.title, version=application.version, routes=application.routes
            )
            for path in schema["paths"].values():
                for operation in path.values():
                    operation["responses"].pop("422", None)  # a bad parameter is 400 here
            components = schema.setdefault("components", {})
            components["schemas"] = {"Problem": _PROBLEM}
            application.openapi_schema = schema
        return application.openapi_schema

    application.openapi = openapi  # type: ignore[method-assign]


def _problems(more: tuple[int, ...]) -> Responses:
    return {status: _problem(status) for status in sorted({*_ALWAYS, *more})}


def _problem(status: int) -> dict[str, Any]:
    reference = {"$ref": "#/components/schemas/Problem"}
    described: dict[str, Any] = {
        "description": _TEXT[status],
        "content": {PROBLEM_TYPE: {"schema": reference}},
    }
    if status == 409:
        described["headers"] = {UPLOAD_OFFSET: _OFFSET}
    if status in (429, 503):
        described["headers"] = {"Retry-After": {**_SECONDS, "required": True}}
    return described
