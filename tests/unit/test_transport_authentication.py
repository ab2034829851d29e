"""Authentication of requests: bound to everything in the request, fresh, and by one key."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from wire_samples import DOMAIN, KEY, OTHER_DOMAIN, OTHER_KEY, ROUND, TASK, SeededRandomness, digest

from omnilytics.foundation.errors import MalformedError, VerificationError
from omnilytics.transport.authentication import (
    HEADER,
    MAX_AGE_SECONDS,
    authenticate,
    check_request,
)
from omnilytics.wire.envelope import MAX_ENVELOPE_BYTES, sign_message
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.messages import Final, Request

NOW = 1_700_000_000


def make(**changes: Any) -> str:
    values: dict[str, Any] = {
        "method": "PUT",
        "path": "/v1/tasks/3/artefacts/00",
        "body": b"body",
        "task": TASK,
        "round_number": ROUND,
        "time": NOW,
        "key": KEY,
        "domain": DOMAIN,
        "randomness": SeededRandomness(1),
    }
    headers = authenticate(**{**values, **changes})
    assert list(headers) == [HEADER]
    return headers[HEADER]


def check(header: str | None, **changes: Any) -> Request:
    values: dict[str, Any] = {
        "method": "PUT",
        "path": "/v1/tasks/3/artefacts/00",
        "body": b"body",
        "now": NOW,
        "signer": KEY.address,
        "domain": DOMAIN,
    }
    return check_request(header, **{**values, **changes})


def test_a_request_is_accepted() -> None:
    request = check(make())
    assert request == Request(
        task=TASK,
        round=ROUND,
        method="PUT",
        path="/v1/tasks/3/artefacts/00",
        body_hash=content_hash(b"body"),
        time=NOW,
        nonce=request.nonce,
    )
    assert request.nonce == SeededRandomness(1).bytes(32)


def test_every_request_has_its_nonce() -> None:
    randomness = SeededRandomness(1)
    nonces = {check(make(randomness=randomness)).nonce for _ in range(5)}
    assert len(nonces) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "POST"},
        {"method": "put"},
        {"path": "/v1/tasks/3/artefacts/01"},
        {"path": "/v1/tasks/3/artefacts/00/"},
        {"path": "/v1/tasks/3/artefacts/00?a=b"},
        {"body": b""},
        {"body": b"bodY"},
        {"now": NOW + MAX_AGE_SECONDS + 1},
        {"now": NOW - MAX_AGE_SECONDS - 1},
        {"signer": OTHER_KEY.address},
        {"domain": OTHER_DOMAIN},
    ],
    ids=str,
)
def test_a_header_is_for_one_request(changes: dict[str, Any]) -> None:
    header = make()
    check(header)
    with pytest.raises(VerificationError):
        check(header, **changes)


@pytest.mark.parametrize("offset", [-MAX_AGE_SECONDS, MAX_AGE_SECONDS])
def test_clocks_may_differ_a_little(offset: int) -> None:
    assert check(make(), now=NOW + offset).time == NOW


def test_another_key_is_refused() -> None:
    with pytest.raises(VerificationError, match="another key"):
        check(make(key=OTHER_KEY))


def test_a_missing_header_is_refused() -> None:
    with pytest.raises(VerificationError, match="not authenticated"):
        check(None)


def test_another_message_is_refused() -> None:
    final = Final(task=TASK, round=ROUND, accepted_root=digest("root"))
    header = base64.b64encode(sign_message(final, KEY, DOMAIN).encode()).decode()
    with pytest.raises(VerificationError, match="not a Request"):
        check(header)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "====",
        "not base64!",
        "é",
        "YQ==\n",
        "YQ",
        "YQ==",
        base64.b64encode(bytes(200)).decode(),
        make()[:-4],
        make() + "AAAA",
        " " + make(),
        base64.urlsafe_b64encode(b"\xff" * 90).decode(),
    ],
)
def test_malformed_headers_are_refused(header: str) -> None:
    with pytest.raises(MalformedError):
        check(header)


def test_long_headers_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(base64, "b64decode")
    with pytest.raises(MalformedError, match="too long"):
        check("A" * (2 * MAX_ENVELOPE_BYTES + 1))


def test_an_altered_field_is_another_signer() -> None:
    header = base64.b64decode(make())
    later = header.replace(NOW.to_bytes(4, "big"), (NOW + 1).to_bytes(4, "big"))
    assert later != header
    with pytest.raises(VerificationError, match="another key"):
        check(base64.b64encode(later).decode())
