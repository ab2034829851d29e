"""Signatures: one accepted form, eth_account as the other side, keys that stay out of reprs."""

from __future__ import annotations

import pytest
from eth_account import Account
from wire_samples import DOMAIN, KEY, OTHER_DOMAIN, OTHER_KEY, SeededRandomness, digest

from omnilytics.foundation.errors import KeyMaterialError, MalformedError, VerificationError
from omnilytics.foundation.units import Round, TaskId
from omnilytics.wire.messages import Final
from omnilytics.wire.signatures import SigningKey, recover_address, sign_digest, verify

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
FIELD = 2**256 - 2**32 - 977
DIGEST = digest("message")
SIGNATURE = KEY.sign_digest(DIGEST)
FINAL = Final(task=TaskId(1), round=Round(2), accepted_root=digest("root"))


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def test_address_is_eth_accounts() -> None:
    for label in ("a", "b", "c"):
        secret = digest(label)
        assert SigningKey(secret).address.hex() == Account.from_key(secret).address[2:].lower()


def test_signatures_are_eth_accounts_and_low() -> None:
    for index in range(40):
        message = digest(f"message {index}")
        signature = KEY.sign_digest(message)
        theirs = Account.unsafe_sign_hash(message, KEY.secret)
        assert signature == bytes(theirs.signature) == sign_digest(KEY.secret, message)
        assert int.from_bytes(signature[32:64], "big") <= ORDER // 2
        assert signature[64] in (27, 28)
        assert recover_address(message, signature) == KEY.address
        recovered = Account._recover_hash(message, signature=signature)
        assert recovered[2:].lower() == KEY.address.hex()


def test_the_high_twin_is_refused() -> None:
    s = int.from_bytes(SIGNATURE[32:64], "big")
    twin = SIGNATURE[:32] + word(ORDER - s) + bytes([27 + 28 - SIGNATURE[64]])
    # Without the rule of EIP-2 the twin is as good as the signature.
    recovered = Account._recover_hash(DIGEST, signature=twin)
    assert recovered[2:].lower() == KEY.address.hex()
    with pytest.raises(MalformedError, match="malleable"):
        recover_address(DIGEST, twin)


@pytest.mark.parametrize("v", [0, 1, 2, 26, 29, 30, 37, 255])
def test_other_v_are_refused(v: int) -> None:
    with pytest.raises(MalformedError, match="not a signature"):
        recover_address(DIGEST, SIGNATURE[:64] + bytes([v]))


@pytest.mark.parametrize("length", [0, 1, 63, 64, 66, 130])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(MalformedError, match="not a signature"):
        recover_address(DIGEST, (SIGNATURE * 2)[:length])


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (0, 1),
        (1, 0),
        (0, 0),
        (5, 1),  # no point has this abscissa
        (ORDER, 1),
        (FIELD, 1),
        (2**256 - 1, 1),
    ],
)
@pytest.mark.parametrize("v", [27, 28])
def test_numbers_that_belong_to_no_key_are_refused(r: int, s: int, v: int) -> None:
    with pytest.raises(MalformedError, match="belongs to no key"):
        recover_address(DIGEST, word(r) + word(s) + bytes([v]))


def test_s_at_the_bound() -> None:
    half = ORDER // 2
    recover_address(DIGEST, SIGNATURE[:32] + word(half) + b"\x1b")
    with pytest.raises(MalformedError, match="malleable"):
        recover_address(DIGEST, SIGNATURE[:32] + word(half + 1) + b"\x1b")


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33)])
def test_only_digests_of_32_bytes_are_recovered(wrong: bytes) -> None:
    with pytest.raises(MalformedError):
        recover_address(wrong, SIGNATURE)


def test_verify_names_the_wrong_signer() -> None:
    signature = OTHER_KEY.sign(FINAL, DOMAIN)
    verify(FINAL, signature, OTHER_KEY.address, DOMAIN)
    with pytest.raises(VerificationError, match="Final was signed by another key") as caught:
        verify(FINAL, signature, KEY.address, DOMAIN)
    assert OTHER_KEY.address.hex() in str(caught.value)
    assert KEY.address.hex() in str(caught.value)


def test_a_signature_is_for_one_message_and_one_domain() -> None:
    signature = KEY.sign(FINAL, DOMAIN)
    verify(FINAL, signature, KEY.address, DOMAIN)
    with pytest.raises(VerificationError):
        verify(FINAL, signature, KEY.address, OTHER_DOMAIN)
    other = Final(task=FINAL.task, round=Round(3), accepted_root=FINAL.accepted_root)
    with pytest.raises(VerificationError):
        verify(other, signature, KEY.address, DOMAIN)


@pytest.mark.parametrize(
    "secret", [b"", bytes(32), bytes(31) + b"", b"\x01" * 33, word(ORDER), word(2**256 - 1)]
)
def test_keys_outside_their_range_are_refused(secret: bytes) -> None:
    with pytest.raises(KeyMaterialError) as caught:
        SigningKey(secret)
    assert not secret or secret.hex() not in str(caught.value)


def test_the_ends_of_the_range_are_keys() -> None:
    assert SigningKey(word(1)).address != SigningKey(word(ORDER - 1)).address


def test_generated_keys_skip_what_is_out_of_range() -> None:
    class Listed:
        values = iter([bytes(32), word(ORDER), word(7)])

        def bytes(self, count: int) -> bytes:
            assert count == 32
            return next(self.values)

    assert SigningKey.generate(Listed()).secret == word(7)
    randomness = SeededRandomness(1)
    assert SigningKey.generate(randomness).address != SigningKey.generate(randomness).address


def test_repr_hides_the_key() -> None:
    for text in (repr(KEY), str(KEY)):
        assert KEY.address.hex() in text
        assert KEY.secret.hex() not in text
        assert repr(KEY.secret)[2:-1] not in text
