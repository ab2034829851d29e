"""A dealer that has given its shares away deals nothing more: seeds must not mask two secrets."""

from __future__ import annotations

import numpy as np
import pytest
from protocol_world import SeededRandomness

from omnilytics.foundation.errors import UsageError
from omnilytics.sharing.committee import DEFAULT
from omnilytics.sharing.shamir import Dealer


def test_nothing_is_shared_after_the_shares_are_out() -> None:
    randomness = SeededRandomness(1)
    dealer = Dealer(DEFAULT, 3, 2, [randomness.bytes(32)])
    vector, bits = np.arange(3, dtype=np.uint64), np.ones(2, dtype=np.uint64)
    dealer.share_vector(vector)
    dealer.share_proof(bits, randomness)
    first = [share.elements(0, share.length).tolist() for share in dealer.shares()]
    with pytest.raises(UsageError, match="once"):
        dealer.share_proof(bits, randomness)
    with pytest.raises(UsageError, match="once"):
        dealer.share_vector(vector)
    again = [share.elements(0, share.length).tolist() for share in dealer.shares()]
    assert again == first  # taking them again is no second sharing
