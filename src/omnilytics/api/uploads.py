"""The routes that take packages, whole or in parts.

A part is a PUT with Content-Range and the signed Request of the whole upload; it is answered 202
with Upload-Offset until the upload is whole, and then like an upload in one request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from omnilytics.api.documentation import (
    UPLOAD_ANSWER,
    WITH_BODY,
    answers,
    describe_body,
    done,
    link,
)
from omnilytics.api.exchange import (
    ROUND_PREFIX,
    Authentication,
    OwnerPath,
    RoundPath,
    ServerPath,
    TaskPath,
    content,
    read_address,
    read_body,
    too_large,
)
from omnilytics.api.limits import RateLimit
from omnilytics.api.work import Work
from omnilytics.foundation.errors import MalformedError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.roles.server import Server
from omnilytics.storage.uploads import UploadKey
from omnilytics.transport.authentication import check_route
from omnilytics.transport.client import parts_path
from omnilytics.transport.parts import (
    CONTENT_RANGE,
    CONTENT_RANGE_PATTERN,
    UPLOAD_OFFSET,
    read_content_range,
)
from omnilytics.wire.messages import Request as SignedRequest

OWN = 0
"""In place of a server's index: the package is for the server that receives it."""
_SAME = ("task", "round_number", "owner")
_TO_BOARD = {"board": link("get_board", "task", "round_number", kinds="certificate")}
_TO_HELD = {"what is held": link("get_held", *_SAME, "index")}
Range = Annotated[
    str | None,
    Header(
        alias=CONTENT_RANGE,
        description="Of a part: bytes FIRST-LAST/TOTAL.",
        json_schema_extra={"pattern": CONTENT_RANGE_PATTERN},
    ),
]


class Packages:
    """Takes the packages of owners for one server."""

    def __init__(
        self, server: Server, now: Callable[[], float], work: Work, by_signer: RateLimit
    ) -> None:
        self._by_signer = by_signer
        self._server = server
        self._now = now
        self._work = work

    def identify(self, owner: Address, header: str | None) -> SignedRequest:
        """Return the owner's signed request, before any of its body is read."""
        signed = self._server.intake.identify_owner(owner, header, int(self._now()))
        self._by_signer.take(owner.hex(), "signer")
        return signed

    async def take(
        self, request: Request, key: UploadKey, signed: SignedRequest, content_range: str | None
    ) -> Response:
        """Take a body or a part of one."""
        server, path = self._server, request.url.path
        if content_range is not None:
            path = self._signed_path(path, key)
        limit = await self._work.run(lambda: server.intake.package_limit(key.task))

        def accept(body: bytes | memoryview) -> Awaitable[bytes]:
            if key.server == OWN:
                return server.intake.accept_package(
                    key.task, key.round, key.owner, body, path=path, request=signed
                )
            return server.intake.hold_package(
                key.task, key.round, key.server, key.owner, body, path=path, request=signed
            )

        if content_range is None:
            body = await read_body(request, limit)
            return content(await self._work.run(lambda: accept(body)))
        part = read_content_range(content_range)
        if part.total > limit:
            raise too_large(limit)
        check_route(signed, method="PUT", path=path)
        await self._work.run(lambda: server.uploading.check(key))
        body = await read_body(request, part.length)
        if len(body) != part.length:
            raise MalformedError("a part of another length", got=len(body), want=part.length)
        offset = await self._work.call(lambda: server.uploading.add(key, part, body))
        if offset < part.total:
            return Response(status_code=202, headers={UPLOAD_OFFSET: str(offset)})
        return content(await self._work.run(lambda: server.uploading.finish(key, accept)))

    def _signed_path(self, path: str, key: UploadKey) -> str:
        """Return the path that an owner signs for parts: of a held package it names the holder."""
        return path if key.server == OWN else parts_path(path, self._server.node.address)

    async def offset(self, request: Request, key: UploadKey, signed: SignedRequest) -> Response:
        """Tell where an upload goes on."""
        check_route(signed, method="PUT", path=self._signed_path(request.url.path, key))
        offset = await self._work.call(lambda: self._server.uploading.offset(key))
        return Response(status_code=204, headers={UPLOAD_OFFSET: str(offset)})


def add_upload_routes(
    router: APIRouter,
    server: Server,
    now: Callable[[], float],
    work: Work,
    by_signer: RateLimit,
) -> None:
    """Add the routes of both kinds of packages."""
    packages = Packages(server, now, work, by_signer)
    _add_own_routes(router, packages)
    _add_held_routes(router, packages)


def _add_own_routes(router: APIRouter, packages: Packages) -> None:
    path = ROUND_PREFIX + "/submissions/{owner}"

    @router.put(
        path,
        responses=_upload_answers("Envelope of Receipt", _TO_BOARD),
        openapi_extra=describe_body("SealedPackage for this server, or a part of it."),
    )
    async def put_package(
        task: TaskPath,
        round_number: RoundPath,
        owner: OwnerPath,
        request: Request,
        authentication: Authentication = None,
        content_range: Range = None,
    ) -> Response:
        """Store this server's sealed package (its owner); returns the signed receipt."""
        signed = packages.identify(read_address(owner), authentication)
        key = _key(task, round_number, owner, OWN, signed)
        return await packages.take(request, key, signed, content_range)

    @router.head(path, status_code=204, responses=_offset_answers("put_package", *_SAME))
    async def get_package_offset(
        task: TaskPath,
        round_number: RoundPath,
        owner: OwnerPath,
        request: Request,
        authentication: Authentication = None,
    ) -> Response:
        """Tell where an upload in parts goes on; the header is that of the upload's PUT."""
        signed = packages.identify(read_address(owner), authentication)
        key = _key(task, round_number, owner, OWN, signed)
        return await packages.offset(request, key, signed)


def _add_held_routes(router: APIRouter, packages: Packages) -> None:
    path = ROUND_PREFIX + "/held/{index}/{owner}"

    @router.put(
        path,
        responses=_upload_answers("Envelope of Held", _TO_HELD),
        openapi_extra=describe_body("SealedPackage for the server of this index, or a part."),
    )
    async def put_held(
        task: TaskPath,
        round_number: RoundPath,
        index: ServerPath,
        owner: OwnerPath,
        request: Request,
        authentication: Authentication = None,
        content_range: Range = None,
    ) -> Response:
        """Keep another server's sealed package (its owner); returns the signed Held message."""
        signed = packages.identify(read_address(owner), authentication)
        key = _key(task, round_number, owner, index, signed)
        return await packages.take(request, key, signed, content_range)

    @router.head(path, status_code=204, responses=_offset_answers("put_held", *_SAME, "index"))
    async def get_held_offset(
        task: TaskPath,
        round_number: RoundPath,
        index: ServerPath,
        owner: OwnerPath,
        request: Request,
        authentication: Authentication = None,
    ) -> Response:
        """Tell where an upload in parts goes on; the header is that of the upload's PUT."""
        signed = packages.identify(read_address(owner), authentication)
        key = _key(task, round_number, owner, index, signed)
        return await packages.offset(request, key, signed)


def _key(task: int, round_number: int, owner: str, index: int, signed: SignedRequest) -> UploadKey:
    return UploadKey(
        task=TaskId(task),
        round=Round(round_number),
        owner=read_address(owner),
        server=index,
        body_hash=signed.body_hash,
    )


def _upload_answers(what: str, links: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    return {**answers(what, 409, *WITH_BODY, links=links), 202: UPLOAD_ANSWER}


def _offset_answers(operation: str, *names: str) -> dict[int | str, dict[str, Any]]:
    described = done("Where the upload goes on.", links={"go on": link(operation, *names)})
    described[204]["headers"] = UPLOAD_ANSWER["headers"]
    return described
