"""Deploying a market and its registry.

Each names the other for ever: the registry comes first and is told where the market will be, which
follows from the deployer's account and nonce; the market refuses a registry of another market.
"""

from __future__ import annotations

import rlp
from eth_hash.auto import keccak

from omnilytics.chain.abi import constructor_arguments
from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.sender import Sender
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Wei

DEFAULT_MIN_STAKE_WEI = Wei(10**17)
DEFAULT_DRAW_FEE_WEI = Wei(10**15)
DEPLOY_GAS = 6_000_000


def deploy_market(
    sender: Sender,
    *,
    min_stake_wei: Wei = DEFAULT_MIN_STAKE_WEI,
    draw_fee_wei: Wei = DEFAULT_DRAW_FEE_WEI,
) -> Address:
    """Deploy a registry and its market, and return the market's address.

    Args:
        sender: Pays for it and gets no rights over it. It must send nothing else meanwhile.
        min_stake_wei: Smallest stake of a server, 1 .. 2^96 - 1 wei.
        draw_fee_wei: What drawing a committee costs, 0 .. 2^96 - 1 wei; it is burnt.

    Raises:
        FundsError: The account cannot pay.
        ChainError: The chain refused a contract.
    """
    market = contract_address(sender.address, sender.chain.next_nonce(sender.address) + 1)
    registry = _create(sender, "Registry", market, min_stake_wei, draw_fee_wei)
    if _create(sender, "Market", registry) != market:
        raise ChainError("the account sent something else meanwhile", hint="deploy again")
    return market


def _create(sender: Sender, contract: str, *arguments: object) -> Address:
    data = load_artefact(contract).bytecode + constructor_arguments(contract, *arguments)
    receipt = sender.send(None, data, gas=DEPLOY_GAS)
    if receipt.contract is None:
        raise ChainError("the chain created no contract")
    return receipt.contract


def contract_address(sender: Address, nonce: int) -> Address:
    """Return the address of the contract that an account's transaction creates."""
    encoded: bytes = rlp.encode([sender, nonce])
    return Address(keccak(encoded)[12:])
