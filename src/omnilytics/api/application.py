"""A server as a FastAPI application; the same over sockets and over httpx's ASGI transport.

Bodies are bounded while they are read, before anything parses them. Errors are problem+json
(RFC 9457) with the stable code of the exception tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import FastAPI, Header, Path, Query, Request, Response

from omnilytics.api.problems import NotFoundError, add_problem_handlers
from omnilytics.api.work import InPlace, Work
from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Address, Hash32, Round, TaskId
from omnilytics.roles.server import Server
from omnilytics.transport.authentication import HEADER
from omnilytics.transport.client import MEDIA_TYPE, aggregate_path, artefact_path
from omnilytics.transport.consents import CONSENTS_PATH, MAX_CONSENT_BYTES

__all__ = ["NotFoundError", "create_application"]

MAX_ARTEFACT_BYTES = 1 << 30

TaskPath = Annotated[int, Path(ge=1, lt=1 << 63)]
RoundPath = Annotated[int, Path(ge=1, lt=1 << 31)]
OwnerPath = Annotated[str, Path(pattern="^0x[0-9a-f]{40}$")]
HashPath = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
ServerPath = Annotated[int, Path(ge=1, le=13)]
Authentication = Annotated[str | None, Header(alias=HEADER)]


def create_application(
    server: Server, *, now: Callable[[], float] = time.time, work: Work | None = None
) -> FastAPI:
    """Return the application that serves one server.

    Args:
        server: The server.
        now: Clock in unix seconds, for the age of authenticated requests.
        work: Where requests are worked on, while the application's own loop moves bytes; that loop
            by default.
    """
    work = work or InPlace()
    application = FastAPI(title="OmniLytics server", version="1")
    add_problem_handlers(application)
    _add_consent_route(application, server, now, work)
    _add_content_routes(application, server, now, work)
    _add_round_routes(application, server, now, work)
    return application


def _add_consent_route(
    application: FastAPI, server: Server, now: Callable[[], float], work: Work
) -> None:
    @application.post(CONSENTS_PATH)
    async def post_consent(request: Request, authentication: Authentication = None) -> Response:
        """Agree to a task that is to be created (its model owner); returns the signature."""
        signed, sender = server.consenting.identify(authentication, int(now()))
        body = await _body(request, MAX_CONSENT_BYTES)
        return _content(
            await work.call(
                lambda: server.consenting.consent(
                    body, path=CONSENTS_PATH, request=signed, sender=sender
                )
            )
        )


def _add_content_routes(
    application: FastAPI, server: Server, now: Callable[[], float], work: Work
) -> None:
    @application.put("/v1/tasks/{task}/artefacts/{name}", status_code=204)
    async def put_artefact(
        task: TaskPath, name: HashPath, request: Request, authentication: Authentication = None
    ) -> Response:
        """Store the task's specification or a round's artefact (the task's model owner)."""
        signed = await work.call(
            lambda: server.intake.identify_model_owner(TaskId(task), authentication, int(now()))
        )
        content = await _body(request, MAX_ARTEFACT_BYTES)
        content_hash = Hash32(bytes.fromhex(name))
        await work.call(
            lambda: server.intake.store_artefact(
                TaskId(task),
                content_hash,
                content,
                path=artefact_path(TaskId(task), content_hash),
                request=signed,
            )
        )
        return Response(status_code=204)

    @application.get("/v1/blobs/{name}")
    async def get_blob(name: HashPath) -> Response:
        """Return published content by its BLAKE3 hash."""
        return _content(await work.call(lambda: server.blob(Hash32(bytes.fromhex(name)))))


def _add_round_routes(
    application: FastAPI, server: Server, now: Callable[[], float], work: Work
) -> None:
    prefix = "/v1/tasks/{task}/rounds/{round_number}"

    @application.put(prefix + "/submissions/{owner}")
    async def put_package(
        task: TaskPath,
        round_number: RoundPath,
        owner: OwnerPath,
        request: Request,
        authentication: Authentication = None,
    ) -> Response:
        """Store this server's sealed package (its owner); returns the signed receipt."""
        signed = server.intake.identify_owner(_address(owner), authentication, int(now()))
        body = await _body(
            request, await work.run(lambda: server.intake.package_limit(TaskId(task)))
        )
        receipt = await work.run(
            lambda: server.intake.accept_package(
                TaskId(task),
                Round(round_number),
                _address(owner),
                body,
                path=request.url.path,
                request=signed,
            )
        )
        return _content(receipt)

    @application.put(prefix + "/held/{index}/{owner}")
    async def put_held(
        task: TaskPath,
        round_number: RoundPath,
        index: ServerPath,
        owner: OwnerPath,
        request: Request,
        authentication: Authentication = None,
    ) -> Response:
        """Keep another server's sealed package (its owner); returns the signed Held message."""
        signed = server.intake.identify_owner(_address(owner), authentication, int(now()))
        body = await _body(
            request, await work.run(lambda: server.intake.package_limit(TaskId(task)))
        )
        held = await work.run(
            lambda: server.intake.hold_package(
                TaskId(task),
                Round(round_number),
                index,
                _address(owner),
                body,
                path=request.url.path,
                request=signed,
            )
        )
        return _content(held)

    @application.get(prefix + "/held/{index}/{owner}")
    async def get_held(
        task: TaskPath, round_number: RoundPath, index: ServerPath, owner: OwnerPath
    ) -> Response:
        """Return a sealed package kept for another server."""
        return _content(
            await work.call(
                lambda: server.held_package(
                    TaskId(task), Round(round_number), index, _address(owner)
                )
            )
        )

    @application.post(prefix + "/certificates", status_code=204)
    async def post_certificate(
        task: TaskPath, round_number: RoundPath, request: Request
    ) -> Response:
        """Publish an owner's certificate."""
        body = await _body(request, 64 << 10)
        await work.run(
            lambda: server.intake.accept_certificate(TaskId(task), Round(round_number), body)
        )
        return Response(status_code=204)

    @application.post(prefix + "/openings", status_code=204)
    async def post_opening(task: TaskPath, round_number: RoundPath, request: Request) -> Response:
        """Answer a complaint: an owner opens the package that a server could not use."""
        body = await _body(
            request, await work.run(lambda: server.intake.package_limit(TaskId(task)))
        )
        await work.run(lambda: server.accept_answer(TaskId(task), Round(round_number), body))
        return Response(status_code=204)

    @application.get(prefix + "/board")
    async def get_board(
        task: TaskPath,
        round_number: RoundPath,
        kinds: Annotated[str, Query(max_length=256)],
    ) -> Response:
        """Return the public records of the given kinds, separated by commas."""
        return _content(
            await work.call(
                lambda: server.board(TaskId(task), Round(round_number), tuple(kinds.split(",")))
            )
        )

    @application.post(prefix + "/aggregate")
    async def post_aggregate(
        task: TaskPath, round_number: RoundPath, authentication: Authentication = None
    ) -> Response:
        """Return the sealed share of the sum (the task's model owner)."""
        sealed = await work.run(
            lambda: server.releasing.aggregate(
                TaskId(task),
                Round(round_number),
                path=aggregate_path(TaskId(task), Round(round_number)),
                header=authentication,
                now=int(now()),
            )
        )
        return _content(sealed)


async def _body(request: Request, limit: int) -> bytes:
    """Read a request's body; raises MalformedError once it exceeds `limit` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise MalformedError("request too large", want=f"<= {limit} bytes")
    return bytes(body)


def _content(content: bytes | None) -> Response:
    if content is None:
        raise NotFoundError("no such content")
    return Response(content, media_type=MEDIA_TYPE)


def _address(text: str) -> Address:
    return Address(bytes.fromhex(text[2:]))
