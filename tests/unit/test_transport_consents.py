"""What travels when a server is asked to agree to a task."""

from __future__ import annotations

import pytest

from omnilytics.foundation.errors import MalformedError
from omnilytics.transport.consents import (
    MAX_CONSENT_BYTES,
    ConsentRequest,
    decode_consent,
    encode_consent,
)
from omnilytics.wire import cbor
from omnilytics.wire.task_specification import MAX_SPECIFICATION_BYTES


def test_the_largest_request_fits_its_bound() -> None:
    request = ConsentRequest(specification=bytes(MAX_SPECIFICATION_BYTES), expires=(1 << 63) - 1)
    body = request.encode()
    assert len(body) <= MAX_CONSENT_BYTES
    assert ConsentRequest.decode(body, max_bytes=MAX_CONSENT_BYTES) == request


@pytest.mark.parametrize(
    "fields",
    [
        {"specification": b"", "expires": 1},
        {"specification": bytes(MAX_SPECIFICATION_BYTES + 1), "expires": 1},
        {"specification": b"x", "expires": -1},
        {"specification": b"x", "expires": 1 << 63},
        {"specification": "x", "expires": 1},
        {"specification": b"x"},
        {"specification": b"x", "expires": 1, "more": 1},
    ],
)
def test_other_requests_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        ConsentRequest.decode(cbor.encode(fields), max_bytes=2 * MAX_CONSENT_BYTES)


def test_an_answer_is_65_bytes() -> None:
    signature = bytes(range(65))
    assert decode_consent(encode_consent(signature)) == signature


@pytest.mark.parametrize("answer", [bytes(64), bytes(66), b"", "text", 1, [bytes(65)]])
def test_other_answers_are_refused(answer: object) -> None:
    with pytest.raises(MalformedError):
        decode_consent(cbor.encode(answer))
