"""The OpenAPI document against a real server: what it says of requests and answers is so.

Cases are generated from the document, valid and invalid ones, and along its links. A part of the
valid ones is about a real round, and signed, so that not only refusals are seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from market_world import market_world
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.stateful.state_machine import APIStateMachine
from submitting import Submitting, start_submitting

from omnilytics.api.application import create_application
from omnilytics.roles.server import Server
from omnilytics.transport.authentication import HEADER, authenticate
from omnilytics.transport.client import MEDIA_TYPE

CASES = 20
"""Of each operation, valid and invalid ones each."""
WALKS, STEPS = 20, 4
# All checks are on; two expect other statuses than they would by default, each for its reason.
CHECKS: dict[str, Any] = {
    # 503 is documented, with Retry-After: a chain or a store that does not serve now.
    "not_a_server_error": {"expected-statuses": ["2xx", "4xx", 503]},
    # OpenAPI cannot say which bytes are a package, or which owner has signed: 400 and 403.
    "positive_data_acceptance": {"expected-statuses": ["2xx", 400, 403, 404, 409, 429, 503]},
}
FIXED = settings(
    max_examples=CASES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Real:
    """What is real in the market that the server takes part in."""

    submitting: Submitting
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)

    def make_real(self, case: Case[Any]) -> None:
        """Put a valid case into the open round."""
        submitting = self.submitting
        real = {
            "task": submitting.task,
            "round_number": submitting.round,
            "owner": "0x" + submitting.address.hex(),
            "index": 2,
            "name": submitting.world.market.reader.task(submitting.task).terms.spec_hash.hex(),
        }
        parameters = case.path_parameters or {}
        parameters.update({name: real[name] for name in parameters})
        if "kinds" in (case.query or {}):
            case.query["kinds"] = "certificate,seed"
        name = case.operation.definition.raw["operationId"]
        bodies = {"put_package": submitting.body(1), "put_held": submitting.body(2)}
        if name in bodies:
            case.body = bodies[name]
            case.headers.pop("Content-Range", None)
        if name == "put_artefact":
            case.body = submitting.world.view.specification.encode()

    def sign(self, case: Case[Any]) -> None:
        """Sign a case as the party that its route is for."""
        submitting, market = self.submitting, self.submitting.world.market
        name = case.operation.definition.raw["operationId"]
        by_model_owner = name in ("put_artefact", "post_aggregate", "post_consent")
        body = case.body if isinstance(case.body, bytes) else b""
        headers = authenticate(
            method="PUT" if case.method == "HEAD" else case.method,
            path=submitting.signed_path(case.formatted_path)
            if name == "get_held_offset"
            else case.formatted_path,
            body=body,
            task=submitting.task,
            round_number=submitting.round,
            time=int(submitting.owner._now()),
            key=market.model_owner.key if by_model_owner else submitting.owner.key,
            domain=market.reader.domain,
            randomness=submitting.owner.randomness,
        )
        case.headers[HEADER] = headers[HEADER]

    def prepare(self, case: Case[Any]) -> None:
        """Make two of three valid cases real, so that each kind is tried."""
        if case.meta is None or not case.meta.generation.mode.is_positive:
            return
        chosen = repr((case.method, case.path_parameters, case.query, case.body)).encode()
        if crc32(chosen) % 3:  # by the case alone: it may be played again
            self.make_real(case)
            if HEADER in {one.name for one in case.operation.headers}:
                self.sign(case)
            # Bytes that a caller puts in are taken for invalid ones, whatever they are.
            case._record_starting_state()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    folder: Path = tmp_path_factory.mktemp("market")
    with asyncio.Runner() as runner:
        market = market_world(folder)
        world = runner.run(market.__aenter__())
        try:
            yield Real(runner.run(start_submitting(world)))
        finally:
            runner.run(market.__aexit__(None, None, None))


@pytest.fixture(scope="module")
def schema(real: Real) -> Any:
    server: Server = real.submitting.world.market.servers[0]
    config = SchemathesisConfig.from_dict({"checks": CHECKS})
    application = create_application(server)
    return schemathesis.openapi.from_asgi("/openapi.json", application, config=config)


@schemathesis.serializer(MEDIA_TYPE)
def as_bytes(_context: object, value: Any) -> bytes:
    """Bodies are bytes; what is not makes an invalid body."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


schemathesis.openapi.media_type(MEDIA_TYPE, st.binary(max_size=300))


def send(real: Real, case: Case[Any]) -> None:
    real.prepare(case)
    response = case.call_and_validate()
    name = case.operation.definition.raw["operationId"]
    real.statuses[name, response.status_code] += 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name)
def test_every_answer_is_documented(real: Real, schema: Any, mode: GenerationMode) -> None:
    for result in schema.get_all_operations():
        operation = result.ok()
        if mode.is_negative and not (operation.path_parameters or operation.query):
            continue  # nothing of it can be invalid: any bytes are a body, any text a header

        @FIXED
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: Case[Any]) -> None:
            send(real, case)

        run()
    if mode.is_negative:
        return
    names = {name for name, _ in real.statuses}
    worked = {name for name, status in real.statuses if status < 300}
    # What a round that is open has none of: consents, certificates, complaints, a sum.
    later = {"post_consent", "post_certificate", "post_opening", "post_aggregate"}
    assert names - worked == later


@pytest.mark.slow
def test_links_lead_on(real: Real, schema: Any) -> None:
    before = real.statuses.copy()

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def call(self, case: Case[Any], **options: Any) -> Any:
            real.prepare(case)
            response = super().call(case, **options)
            real.statuses[case.operation.definition.raw["operationId"], response.status_code] += 1
            return response

    machine: type[APIStateMachine] = Walk
    machine.run(settings=settings(FIXED, max_examples=WALKS, stateful_step_count=STEPS))
    taken = real.statuses - before
    assert taken["get_held", 200] + taken["get_board", 200] + taken["get_blob", 200] > 0
