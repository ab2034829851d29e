"""A server as a FastAPI application; the same over sockets and over httpx's ASGI transport.

Bodies are bounded while they are read, before anything parses them. Errors are problem+json
(RFC 9457) with the stable code of the exception tree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from omnilytics.api.documentation import (
    WITH_BODY,
    answers,
    describe_body,
    document,
    done,
    link,
    operation_id,
)
from omnilytics.api.exchange import (
    ROUND_PREFIX,
    AskedRange,
    Authentication,
    HashPath,
    OwnerPath,
    RoundPath,
    ServerPath,
    TaskPath,
    content,
    content_in_parts,
    read_address,
    read_body,
)
from omnilytics.api.limits import Limits, network_of
from omnilytics.api.media import CborResponse, check_media_types
from omnilytics.api.problems import NotFoundError, add_problem_handlers
from omnilytics.api.uploads import add_upload_routes
from omnilytics.api.work import InPlace, Work
from omnilytics.foundation.units import Hash32, Round, TaskId
from omnilytics.roles.server import Server
from omnilytics.transport.client import HPKE_PATH, aggregate_path, artefact_path
from omnilytics.transport.consents import CONSENTS_PATH, MAX_CONSENT_BYTES
from omnilytics.transport.parts import CONTENT_RANGE
from omnilytics.wire.aggregate import MAX_AGGREGATE_PART_BYTES

__all__ = ["NotFoundError", "create_application"]

MAX_ARTEFACT_BYTES = 1 << 30
_TO_BOARD = {"board": link("get_board", "task", "round_number", kinds="certificate")}


def create_application(
    server: Server,
    *,
    now: Callable[[], float] = time.time,
    work: Work | None = None,
    limits: Limits | None = None,
) -> FastAPI:
    """Return the application that serves one server.

    Args:
        server: The server.
        now: Clock in unix seconds, for the age of authenticated requests.
        work: Where requests are worked on, while the application's own loop moves bytes; that loop
            by default.
        limits: How many requests one client may make; none by default.
    """
    limits = limits or Limits.none()

    async def check_rate(request: Request) -> None:
        host = request.client.host if request.client else ""
        limits.by_address.take(network_of(host), "address")

    work = work or InPlace()
    application = FastAPI(title="OmniLytics server", version="1")
    add_problem_handlers(application)
    router = APIRouter(
        dependencies=[Depends(check_rate), Depends(check_media_types)],
        default_response_class=CborResponse,
        generate_unique_id_function=operation_id,
    )
    _add_consent_route(router, server, now, work)
    _add_content_routes(router, server, now, work)
    add_upload_routes(router, server, now, work, limits.by_signer)
    _add_round_routes(router, server, now, work)
    application.include_router(router)
    document(application)
    return application


def _add_consent_route(
    router: APIRouter, server: Server, now: Callable[[], float], work: Work
) -> None:
    @router.post(
        CONSENTS_PATH,
        responses=answers("The signature of Consent.", *WITH_BODY),
        openapi_extra=describe_body("ConsentRequest"),
    )
    async def post_consent(request: Request, authentication: Authentication = None) -> Response:
        """Agree to a task that is to be created (its model owner); returns the signature."""
        signed, sender = server.consenting.identify(authentication, int(now()))
        body = await read_body(request, MAX_CONSENT_BYTES)
        return content(
            await work.call(
                lambda: server.consenting.consent(
                    body, path=CONSENTS_PATH, request=signed, sender=sender
                )
            )
        )


def _add_content_routes(
    router: APIRouter, server: Server, now: Callable[[], float], work: Work
) -> None:
    @router.put(
        "/v1/tasks/{task}/artefacts/{name}",
        status_code=204,
        responses=done("Stored.", *WITH_BODY, links={"what was stored": link("get_blob", "name")}),
        openapi_extra=describe_body("A specification or an artefact, at most 1 GiB."),
    )
    async def put_artefact(
        task: TaskPath, name: HashPath, request: Request, authentication: Authentication = None
    ) -> Response:
        """Store the task's specification or a round's artefact (the task's model owner)."""
        signed = await work.call(
            lambda: server.intake.identify_model_owner(TaskId(task), authentication, int(now()))
        )
        body = await read_body(request, MAX_ARTEFACT_BYTES)
        content_hash = Hash32(bytes.fromhex(name))
        await work.call(
            lambda: server.intake.store_artefact(
                TaskId(task),
                content_hash,
                body,
                path=artefact_path(TaskId(task), content_hash),
                request=signed,
            )
        )
        return Response(status_code=204)

    @router.get(HPKE_PATH, responses=answers("HpkeConfiguration"))
    async def get_hpke_configuration() -> Response:
        """Return the server's HPKE key; who seals believes the chain's registered key alone."""
        return content(await work.call(server.hpke_configuration))

    @router.get("/v1/blobs/{name}", responses=answers("The content.", 404, in_parts=True))
    async def get_blob(name: HashPath, asked: AskedRange = None) -> Response:
        """Return published content by its BLAKE3 hash, or a part of it."""
        wanted = Hash32(bytes.fromhex(name))
        return await content_in_parts(
            work,
            asked,
            lambda: server.blob(wanted),
            lambda first, count: server.blob_part(wanted, first=first, count=count),
        )


def _add_round_routes(
    router: APIRouter, server: Server, now: Callable[[], float], work: Work
) -> None:
    prefix = ROUND_PREFIX

    @router.get(
        prefix + "/held/{index}/{owner}", responses=answers("SealedPackage", 404, in_parts=True)
    )
    async def get_held(
        task: TaskPath,
        round_number: RoundPath,
        index: ServerPath,
        owner: OwnerPath,
        asked: AskedRange = None,
    ) -> Response:
        """Return a sealed package kept for another server, or a part of it."""
        place = TaskId(task), Round(round_number), index, read_address(owner)
        return await content_in_parts(
            work,
            asked,
            lambda: server.held_package(*place),
            lambda first, count: server.held_part(*place, first=first, count=count),
        )

    @router.post(
        prefix + "/certificates",
        status_code=204,
        responses=done("It is on the board.", *WITH_BODY, links=_TO_BOARD),
        openapi_extra=describe_body("Certificate, at most 64 KiB"),
    )
    async def post_certificate(
        task: TaskPath, round_number: RoundPath, request: Request
    ) -> Response:
        """Publish an owner's certificate."""
        body = await read_body(request, 64 << 10)
        await work.run(
            lambda: server.intake.accept_certificate(TaskId(task), Round(round_number), body)
        )
        return Response(status_code=204)

    @router.post(
        prefix + "/openings",
        status_code=204,
        responses=done("It is on the board.", *WITH_BODY),
        openapi_extra=describe_body("Opening"),
    )
    async def post_opening(task: TaskPath, round_number: RoundPath, request: Request) -> Response:
        """Answer a complaint: an owner opens the package that a server could not use."""
        body = await read_body(
            request, await work.run(lambda: server.intake.package_limit(TaskId(task)))
        )
        await work.run(lambda: server.accept_answer(TaskId(task), Round(round_number), body))
        return Response(status_code=204)

    @router.get(prefix + "/board", responses=answers("Array of maps {kind, body}"))
    async def get_board(
        task: TaskPath,
        round_number: RoundPath,
        kinds: Annotated[str, Query(max_length=256)],
    ) -> Response:
        """Return the public records of the given kinds, separated by commas."""
        return content(
            await work.call(
                lambda: server.board(TaskId(task), Round(round_number), tuple(kinds.split(",")))
            )
        )

    @router.post(
        prefix + "/aggregate",
        responses=answers("A part of the array of sealed chunks", *WITH_BODY),
        openapi_extra=describe_body("AggregatePart; nothing for the first part.", required=False),
    )
    async def post_aggregate(
        task: TaskPath,
        round_number: RoundPath,
        request: Request,
        authentication: Authentication = None,
    ) -> Response:
        """Return a part of the sealed share of the sum (the task's model owner)."""
        body = await read_body(request, MAX_AGGREGATE_PART_BYTES)
        part, sealed = await work.run(
            lambda: server.releasing.aggregate(
                TaskId(task),
                Round(round_number),
                path=aggregate_path(TaskId(task), Round(round_number)),
                header=authentication,
                body=body,
                now=int(now()),
            )
        )
        return CborResponse(sealed, headers={CONTENT_RANGE: str(part)})
