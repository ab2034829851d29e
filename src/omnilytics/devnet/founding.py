"""Making a network: accounts with ether, the market on the chain, servers with stake and offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omnilytics.chain.connection import Chain
from omnilytics.chain.deploy import deploy_market
from omnilytics.chain.keystore import LIGHT_SCRYPT_N, save_account
from omnilytics.chain.reader import MarketReader
from omnilytics.chain.records import OfferRecord
from omnilytics.chain.sender import Sender
from omnilytics.chain.writer import MarketWriter
from omnilytics.devnet.folder import Network, NetworkAccount, NetworkFolder, NetworkServer, toml
from omnilytics.devnet.ports import HOST, Ports
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.foundation.units import Wei, show_address
from omnilytics.service.keys import write_hpke_key
from omnilytics.wire.signatures import SigningKey

_ETHER = 10**18
BUYER_WEI = Wei(1_000 * _ETHER)
OWNER_WEI = Wei(10 * _ETHER)
SERVER_WEI = Wei(10 * _ETHER)
STAKE_WEI = Wei(_ETHER)
OFFER = OfferRecord(min_fee_wei=Wei(_ETHER // 2_000), max_stake_wei=Wei(_ETHER // 10))
POLL_SECONDS = 0.5
_STALE_SECONDS = 180
_PASSWORD_BYTES = 24
_LEAST_FREE_BYTES = 100_000_000


@dataclass(frozen=True)
class Plan:
    """What is to be made."""

    ports: Ports
    owners: int
    block_seconds: int


def found_network(
    folder: NetworkFolder, chain: Chain, plan: Plan, start: Callable[[int], None]
) -> Network:
    """Put everything on a fresh chain and into the folder; return what it is.

    Args:
        folder: Where to.
        chain: A development chain.
        plan: What to make.
        start: Called with a server's number once it is registered and its files are there.
    """
    first_block = chain.head() + 1
    market = _deploy(chain, first_block)
    url = f"http://{HOST}:{plan.ports.base}"
    section: dict[str, object] = {
        "url": url,
        "market": show_address(market.address),
        "chain_id": chain.chain_id,
        "first_block": first_block,
        "poll_seconds": POLL_SECONDS,
        "stale_seconds": _STALE_SECONDS + 10 * plan.block_seconds,
    }
    servers = []
    for number in range(1, plan.ports.servers + 1):
        servers.append(_make_server(folder, market, plan.ports, number, section))
        start(number)
    names = ["buyer", *(f"owner-{k}" for k in range(1, plan.owners + 1))]
    return Network(
        url=url,
        chain_id=chain.chain_id,
        market=show_address(market.address),
        first_block=first_block,
        block_seconds=plan.block_seconds,
        servers=tuple(servers),
        accounts=tuple(_make_account(folder, chain, name, section) for name in names),
    )


def _deploy(chain: Chain, first_block: int) -> MarketReader:
    """Deploy by a key that is forgotten: who deploys has no rights."""
    key = _funded(chain, BUYER_WEI)
    return MarketReader(chain, deploy_market(Sender(chain, key.secret)), first_block=first_block)


def _make_server(
    folder: NetworkFolder,
    market: MarketReader,
    ports: Ports,
    number: int,
    chain_section: dict[str, object],
) -> NetworkServer:
    place = folder.server(number)
    endpoint = f"http://{HOST}:{ports.public(number)}"
    operations = f"{HOST}:{ports.operations(number)}"
    key = _funded(market.chain, SERVER_WEI)
    _save(key, place)
    hpke_key = write_hpke_key(place / "hpke", SystemRandomness())
    config = place / "server.toml"
    sections: dict[str, dict[str, object]] = {
        "server": {
            "data": "data",
            "listen": endpoint.removeprefix("http://"),
            "endpoint": endpoint,
        },
        "keys": {**_KEYS, "hpke_key": "hpke"},
        "chain": chain_section,
        "rounds": {"recheck_seconds": 2 * POLL_SECONDS},
        "operations": {"listen": operations, "least_free_bytes": _LEAST_FREE_BYTES},
    }
    config.write_text(toml(sections))
    writer = MarketWriter(market, Sender(market.chain, key.secret))
    writer.register_server(endpoint, hpke_key.public, STAKE_WEI)
    writer.set_offer(OFFER)
    return NetworkServer(
        address=show_address(key.address),
        endpoint=endpoint,
        operations=f"http://{operations}",
        config=str(config.relative_to(folder.path)),
    )


def _make_account(
    folder: NetworkFolder, chain: Chain, name: str, chain_section: dict[str, object]
) -> NetworkAccount:
    place = folder.account(name)
    key = _funded(chain, BUYER_WEI if name == "buyer" else OWNER_WEI)
    _save(key, place)
    config = place / "client.toml"
    config.write_text(toml({"chain": chain_section, "keys": _KEYS, "client": {"data": "data"}}))
    return NetworkAccount(
        name=name,
        address=show_address(key.address),
        config=str(config.relative_to(folder.path)),
    )


_KEYS: dict[str, object] = {"keystore": "account", "password_file": "password"}


def _funded(chain: Chain, amount_wei: Wei) -> SigningKey:
    key = SigningKey.generate(SystemRandomness())
    chain.fund(key.address, amount_wei)
    return key


def _save(key: SigningKey, place: Path) -> None:
    """Write keystore and password; nobody can guess the password, so a light cost protects it."""
    password = SystemRandomness().bytes(_PASSWORD_BYTES).hex()
    save_account(key, "account", password, place, scrypt_n=LIGHT_SCRYPT_N)
    file = place / "password"
    file.touch(mode=0o600)
    file.write_text(password + "\n")
