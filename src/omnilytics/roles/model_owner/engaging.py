"""Finding servers for a task and creating it: consents of named ones, or a draw (protocol.md 1).

A task is paid once: whoever was interrupted finds the task of its specification on chain and goes
on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import Phase
from omnilytics.chain.writer import (
    DRAW_BLOCKS,
    DRAW_DELAY_BLOCKS,
    MarketWriter,
    terms_hash,
)
from omnilytics.foundation.errors import (
    ChainError,
    OmniLyticsError,
    PeerError,
    UsageError,
)
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Address, TaskId, show_address
from omnilytics.roles.task_view import Connect, chain_terms, read_specification
from omnilytics.transport.authentication import authenticate
from omnilytics.transport.consents import CONSENTS_PATH, NO_ROUND, NO_TASK, ConsentRequest
from omnilytics.wire.messages import Consent
from omnilytics.wire.signatures import SigningKey, verify
from omnilytics.wire.task_specification import CommitteeMember, TaskSpecification

CONSENT_SECONDS = 3_600
"""How long the servers' agreement is asked to hold: long enough for one transaction."""
NOT_REVEALED = bytes(32)


class Engaging:
    """Creates a model owner's tasks."""

    def __init__(
        self,
        *,
        key: SigningKey,
        market: MarketReader,
        writer: MarketWriter,
        connect: Connect,
        randomness: Randomness,
        now: Callable[[], float],
    ) -> None:
        self._key = key
        self._market = market
        self._writer = writer
        self._connect = connect
        self._randomness = randomness
        self._now = now

    async def engage(self, specification: TaskSpecification) -> TaskId:
        """Return the task on a specification, with its committee; create it unless it exists.

        Raises:
            PeerError: A named server does not agree; nothing was paid.
            UsageError: The task of this specification is closed, or the specification is another's.
            ChainError: Too few servers offer to be drawn, or the contract refused the terms.
        """
        if specification.model_owner != self._key.address:
            raise UsageError(
                "the specification names another model owner",
                got=show_address(Address(specification.model_owner)),
                want=show_address(self._key.address),
            )
        task = self._market.task_of(self._key.address, specification.hash())
        if task is not None and self._market.task(task).closed:
            raise UsageError(
                "the task of this specification is closed",
                hint="change the specification, for example its description",
                task=task,
            )
        if task is None:
            read_specification(specification.encode())  # before anything is paid
            task = await self._create(specification)
        if self._market.round_state(task).phase == Phase.DRAWING:
            await asyncio.to_thread(self._draw, task)
        return task

    async def _create(self, specification: TaskSpecification) -> TaskId:
        terms = chain_terms(specification)
        if specification.committee_mode == "drawn":
            return await asyncio.to_thread(self._writer.create_drawn_task, terms)
        expires = self._market.chain.head_timestamp() + CONSENT_SECONDS
        consents = await self._consents(specification, expires)
        return await asyncio.to_thread(
            self._writer.create_task,
            terms,
            specification.members,
            expires=expires,
            consents=consents,
        )

    # a named committee

    async def _consents(self, specification: TaskSpecification, expires: int) -> list[bytes]:
        """Return the checked agreement of every server, in order."""
        body = ConsentRequest(specification=specification.encode(), expires=expires).encode()
        agreed = Consent(
            model_owner=self._key.address,
            terms_hash=terms_hash(chain_terms(specification), specification.members),
            expires=expires,
        )
        return await asyncio.gather(
            *(self._consent(member, body, agreed) for member in specification.committee)
        )

    async def _consent(self, member: CommitteeMember, body: bytes, agreed: Consent) -> bytes:
        headers = authenticate(
            method="POST",
            path=CONSENTS_PATH,
            body=body,
            task=NO_TASK,
            round_number=NO_ROUND,
            time=int(self._now()),
            key=self._key,
            domain=self._market.domain,
            randomness=self._randomness,
        )
        address = Address(member.address)
        try:
            signature = await self._connect(member.endpoint).post_consent(body, headers)
            verify(agreed, signature, address, self._market.domain)
        except OmniLyticsError as error:
            raise PeerError(
                "a server does not agree to the task",
                got=f"{error.message}: {error.got}" if error.got else error.message,
                hint="change the specification, or name another server",
                server=show_address(address),
                endpoint=member.endpoint,
            ) from None
        return signature

    # a committee that is drawn

    def _draw(self, task: TaskId) -> None:
        """Wait for the block that decides, and draw; ask for another draw if it was missed."""
        chain = self._market.chain
        if chain.head() >= self._market.draw_state(task).pinned_block + DRAW_BLOCKS:
            self._writer.redraw(task)
        chain.wait_for_block(self._market.draw_state(task).pinned_block + DRAW_DELAY_BLOCKS)
        try:
            if self._market.draw_state(task).randomness == NOT_REVEALED:
                self._writer.reveal_draw(task)
            self._writer.draw_committee(task)
        except ChainError:
            # Anyone may reveal and draw: another may have been faster.
            if self._market.round_state(task).phase == Phase.DRAWING:
                raise
