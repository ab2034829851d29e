"""Deploying a market contract."""

from __future__ import annotations

from omnilytics.chain.abi import constructor_arguments
from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.sender import Sender
from omnilytics.foundation.errors import ChainError
from omnilytics.foundation.units import Address, Wei

DEFAULT_MIN_STAKE_WEI = Wei(10**17)
DEPLOY_GAS = 6_000_000


def deploy_market(sender: Sender, *, min_stake_wei: Wei = DEFAULT_MIN_STAKE_WEI) -> Address:
    """Deploy a market and return its address.

    Args:
        sender: Pays for it and gets no rights over it.
        min_stake_wei: Smallest stake of a server, 1 .. 2^96 - 1 wei.

    Raises:
        FundsError: The account cannot pay.
        ChainError: The chain refused the contract.
    """
    data = load_artefact().bytecode + constructor_arguments(min_stake_wei)
    receipt = sender.send(None, data, gas=DEPLOY_GAS)
    if receipt.contract is None:
        raise ChainError("the chain created no contract")
    return receipt.contract
