"""What a server agrees to serve: its price, what it risks, for how long.

A policy governs the tasks whose committee names this server. A committee that is drawn takes the
server's standing offer on chain for its agreement (`set_offer`), which knows a price alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Address, Wei, show_address
from omnilytics.wire.task_specification import ETHER_TOKEN, TaskSpecification, Windows

SECONDS_PER_BLOCK = 12
"""How long a block takes where that matters for a policy: Ethereum's slot."""
NO_FEE, ONE_ETHER = Wei(0), Wei(10**18)
MAX_CONSENT_SECONDS = 86_400
DAY_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class Price:
    """Least fees in one token, in its smallest unit."""

    token: Address = ETHER_TOKEN
    """The zero address is ether."""
    minimum_fee_wei: Wei = NO_FEE
    """Per settled round."""
    minimum_opening_fee_wei: Wei = NO_FEE
    """Per opened round, shared by the committee."""


@dataclass(frozen=True, kw_only=True)
class ServerPolicy:
    """When a server lets itself be named for a task."""

    prices: tuple[Price, ...] = (Price(),)
    """One for each accepted token."""
    most_stake_wei: Wei = ONE_ETHER
    """The most it risks to lose by the word of n - e servers."""
    longest_commitment_seconds: int = 365 * DAY_SECONDS
    """For how long all rounds together may bind its stake at most."""

    def check(self, specification: TaskSpecification) -> None:
        """Raise VerificationError that names the first rule which the specification breaks."""
        price = next((one for one in self.prices if one.token == specification.token), None)
        if price is None:
            raise VerificationError(
                "this server does not accept the token", got=_show_token(specification.token)
            )
        _check_least("fee per round", specification.fee_wei, price.minimum_fee_wei)
        _check_least("opening fee", specification.opening_fee_wei, price.minimum_opening_fee_wei)
        _check_most("stake", specification.min_stake_wei, self.most_stake_wei, "wei")
        bound = specification.max_rounds * longest_round_seconds(specification.windows)
        _check_most("commitment", bound, self.longest_commitment_seconds, "seconds")


def longest_round_seconds(windows: Windows) -> int:
    """Return how long a round can take from its opening to its settlement or its end."""
    blocks = windows.settlement_blocks + windows.confirmations
    return windows.submission_seconds + windows.seal_seconds + blocks * SECONDS_PER_BLOCK


def _check_least(name: str, got: int, want: int) -> None:
    if got < want:
        raise VerificationError(f"the {name} is too small for this server", got=got, want=want)


def _check_most(name: str, got: int, want: int, unit: str) -> None:
    if got > want:
        raise VerificationError(
            f"the {name} is more than this server takes on",
            got=f"{got} {unit}",
            want=f"<= {want} {unit}",
        )


def _show_token(token: bytes) -> str:
    return "ether" if token == ETHER_TOKEN else show_address(Address(token))
