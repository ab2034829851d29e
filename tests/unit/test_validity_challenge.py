from __future__ import annotations

import pytest

from omnilytics.algebra import extension
from omnilytics.algebra.streams import LABEL_CHALLENGE, LABEL_WRAPAROUND_WEIGHTS, Stream
from omnilytics.foundation.errors import MalformedError
from omnilytics.validity.challenge import Challenge, batch_weight
from omnilytics.validity.statement import Statement

SEED = bytes(range(32))
STATEMENT = Statement((10,), tests=8)


def test_layout_of_the_streams() -> None:
    challenge = Challenge(STATEMENT, SEED)
    elements = [int(value) for value in Stream(LABEL_CHALLENGE, SEED).elements(0, 4)]
    assert [*challenge.rho, *challenge.chi] == elements
    data = Stream(LABEL_WRAPAROUND_WEIGHTS, SEED).read(0, 14 * 8)
    for k, (low, high) in enumerate(challenge.weights):
        assert low == int.from_bytes(data[14 * k : 14 * k + 7], "little") < 2**56
        assert high == int.from_bytes(data[14 * k + 7 : 14 * k + 14], "little") < 2**56


def test_powers_start_at_one() -> None:
    challenge = Challenge(STATEMENT, SEED)
    first, second = challenge.rho_powers[:, 0], challenge.rho_powers[:, 1]
    assert tuple(first) == challenge.rho
    assert tuple(second) == extension.multiply(challenge.rho, challenge.rho)
    assert challenge.rho_powers.shape == (2, STATEMENT.constraint_count)


def test_tables_sum_signed_weights() -> None:
    challenge = Challenge(STATEMENT, SEED)
    # 0b11_01_10_00: test 4 is -1, tests 5 and 6 are 0, test 7 is +1.
    weights = challenge.weights
    for limb in range(2):
        expected = weights[7][limb] - weights[4][limb]
        assert challenge.tables[1, 0b11_01_10_00, limb] == expected
        assert challenge.tables[0, 0x00, limb] == -sum(weight[limb] for weight in weights[:4])
        assert challenge.tables[0, 0xFF, limb] == sum(weight[limb] for weight in weights[:4])


def test_seeds_differ() -> None:
    assert Challenge(STATEMENT, SEED).rho != Challenge(STATEMENT, bytes(32)).rho
    with pytest.raises(MalformedError, match="seed"):
        Challenge(STATEMENT, SEED[:-1])


def test_kappa_depends_on_seed_set_and_owner() -> None:
    root, owner = bytes(32), bytes(20)
    kappas = {
        batch_weight(SEED, root, owner),
        batch_weight(bytes(32), root, owner),
        batch_weight(SEED, SEED, owner),
        batch_weight(SEED, root, SEED[:20]),
    }
    assert len(kappas) == 4
    assert batch_weight(SEED, root, owner) == batch_weight(SEED, root, owner)
    for sizes in ((31, 32, 20), (32, 31, 21), (32, 32, 32)):
        with pytest.raises(MalformedError):
            batch_weight(*(bytes(size) for size in sizes))
