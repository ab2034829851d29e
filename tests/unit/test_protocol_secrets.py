"""No secret appears where it could be printed or logged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from protocol_world import World

from omnilytics.foundation.units import Address, Round
from omnilytics.protocol.package_builder import PackageBuilder
from omnilytics.roles.data_owner import Contribution
from omnilytics.roles.server.node import ServerNode
from omnilytics.sharing.shamir import Dealer
from omnilytics.storage.repository import Repository
from omnilytics.transport.hpke import HpkeKey


def assert_hidden(shown: object, *secrets: bytes) -> None:
    for text in (repr(shown), str(shown), f"{shown}", repr([shown]), repr({"it": shown})):
        for secret in secrets:
            assert len(secret) >= 8
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
            assert str(list(secret))[1:-1] not in text
            assert str(int.from_bytes(secret[:8], "little")) not in text
            assert str(int.from_bytes(secret, "big")) not in text


def test_the_check_would_notice() -> None:
    secret = bytes(range(40, 72))
    for leak in (secret, secret.hex(), list(secret), int.from_bytes(secret, "big")):
        try:
            assert_hidden(leak, secret)
        except AssertionError:
            continue
        raise AssertionError(f"not noticed: {leak!r}")


def test_packages_and_shares_hide_their_contents() -> None:
    world = World(seed=71)
    key = world.new_key()
    packages = world.packages(key)
    for package in packages:
        secrets = [package.blind]
        secrets += [package.seed] if package.seed else [package.content[:8], package.content[-32:]]
        assert_hidden(package, *secrets)
        assert_hidden(package.share(world.parameters.share_elements), *secrets)
        assert package.blind.hex() in package.encode().hex()  # the secrets are the right ones
    sealed = world.seal(world.submit(key, packages)).sealed
    contents = [package.content[:32] or package.seed or b"" for package in packages]
    assert_hidden(sealed, key.secret, *contents, *(package.blind for package in packages))


def test_dealers_and_builders_hide_their_contents() -> None:
    world = World(seed=72)
    statement = world.parameters.statement
    seeds = [world.randomness.bytes(32)]
    dealer = Dealer(world.committee, statement.dimension, statement.bit_count, seeds)
    vector = np.arange(10**9, 10**9 + statement.dimension, dtype=np.uint64)
    dealer.share_vector(vector)
    shares = dealer.rows(0, 2)
    dealer.share_proof(np.zeros(statement.bit_count, dtype=np.uint64), world.randomness)
    secrets = [seeds[0], shares[0, :1].tobytes(), vector[:1].tobytes(), vector[-1:].tobytes()]
    assert_hidden(dealer, *secrets)
    for share in dealer.shares():
        assert_hidden(share, *secrets)
    key = world.new_key()
    builder = PackageBuilder(world.parameters, world.context, key, world.randomness)
    assert_hidden(builder, key.secret)


def test_keys_and_those_who_hold_them_hide_the_keys(tmp_path: Path) -> None:
    world = World(seed=73)
    key, hpke_key = world.new_key(), HpkeKey.generate(world.randomness)
    assert_hidden(key, key.secret)
    assert key.address.hex() in repr(key)
    assert_hidden(hpke_key, hpke_key.secret)
    nothing = cast(Any, None)
    repository = Repository(tmp_path, chain_id=1, contract=Address(bytes(20)), server=key.address)
    node = ServerNode(
        key=key,
        hpke_key=hpke_key,
        repository=repository,
        market=nothing,
        writer=nothing,
        connect=nothing,
    )
    assert_hidden(node, key.secret, hpke_key.secret)
    repository.close()


def test_a_contribution_hides_its_vector() -> None:
    world = World(seed=74)
    vector = np.arange(10**9, 10**9 + 4, dtype=np.int64)
    contribution = Contribution(
        round=Round(1), certificate=world.submit().certificate, vector=vector, clip_factor=1.0
    )
    assert_hidden(contribution, *(vector[place : place + 1].tobytes() for place in range(4)))
