"""What a demo run found, as plain values for the terminal, `report.json` and `report.html`."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from omnilytics.demo.options import DemoOptions


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """One round."""

    round: int
    settled: bool
    accepted: list[str]
    rejected: dict[str, str]
    named_servers: dict[str, str]
    refused: dict[str, str]
    """Owners that could not submit, and why."""
    accuracy: float
    plain_accuracy: float
    """Of the same training without protection, after the same round."""
    loss: float
    exact_sum: bool
    """Whether the decoded sum equals the sum of the accepted owners' integers."""
    clipped_owners: int
    gas: dict[str, int]
    seconds: dict[str, float]
    bytes: dict[str, int]

    @property
    def round_gas(self) -> int:
        """Gas of the round itself: reports of faults pay for themselves."""
        return sum(self.gas.get(name, 0) for name in ("open_round", "seal", "settle"))


@dataclass(frozen=True, kw_only=True)
class Slash:
    """What a party lost for a fault, and who reported it."""

    party: str
    round: int
    kind: str
    amount_wei: int
    reporter: str
    share_wei: int


@dataclass(frozen=True, kw_only=True)
class Balance:
    """One party's account over the whole run, in wei."""

    party: str
    note: str
    before_wei: int
    earned_wei: int
    gas_wei: int
    after_wei: int

    @property
    def adds_up(self) -> bool:
        """Whether after = before + earned - gas, to the wei."""
        return self.after_wei == self.before_wei + self.earned_wei - self.gas_wei


@dataclass(kw_only=True)
class DemoResult:
    """A whole run."""

    options: DemoOptions
    dimension: int
    plain_accuracies: list[float]
    clipping_rate: float
    rounds: list[RoundReport] = field(default_factory=list)
    balances: list[Balance] = field(default_factory=list)
    slashes: list[Slash] = field(default_factory=list)
    committee: list[str] = field(default_factory=list)
    """The task's servers in order, as the report names them."""
    contract_wei: int = 0
    """What the market still holds at the end: dust of equal shares."""
    burnt_wei: int = 0
    """What the registry still holds at the end: what was slashed or drawn for, and burnt."""
    gas: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    total_seconds: float = 0.0

    @property
    def books_close(self) -> bool:
        """Whether every balance adds up, and what all lost together the contracts keep."""
        earned = sum(balance.earned_wei for balance in self.balances)
        return (
            bool(self.balances)
            and all(balance.adds_up for balance in self.balances)
            and earned + self.contract_wei + self.burnt_wei == 0
        )

    @property
    def settled(self) -> list[RoundReport]:
        """The rounds that settled."""
        return [report for report in self.rounds if report.settled]

    @property
    def accepted(self) -> list[str]:
        """Owners accepted in every round that settled."""
        if not self.settled:
            return []
        everywhere = set.intersection(*(set(report.accepted) for report in self.settled))
        return sorted(everywhere, key=_number)

    @property
    def rejected(self) -> dict[str, str]:
        """Owners rejected in some round, with every reason that was given."""
        reasons: dict[str, list[str]] = {}
        for report in self.settled:
            for owner, reason in report.rejected.items():
                known = reasons.setdefault(owner, [])
                if reason not in known:
                    known.append(reason)
        return {owner: "; ".join(reasons[owner]) for owner in sorted(reasons, key=_number)}

    @property
    def named_servers(self) -> dict[str, str]:
        """Servers at fault, with what they did and in how many rounds."""
        found: dict[str, list[str]] = {}
        for report in self.settled:
            for server, reason in report.named_servers.items():
                found.setdefault(server, []).append(reason)
        return {
            server: f"{reasons[0]} (in {len(reasons)} of {len(self.settled)} rounds)"
            for server, reasons in sorted(found.items())
        }

    @property
    def refused(self) -> dict[str, tuple[int, str]]:
        """Owners that could not submit: in how many rounds, and why at first."""
        reasons: dict[str, list[str]] = {}
        for report in self.rounds:
            for owner, reason in report.refused.items():
                reasons.setdefault(owner, []).append(reason)
        return {owner: (len(found), found[0]) for owner, found in sorted(reasons.items())}

    @property
    def gas_per_round(self) -> int:
        """Median gas of open_round + seal + settle, from the second round on."""
        later = [report.round_gas for report in self.settled[1:] or self.settled]
        return round(median(later)) if later else 0

    @property
    def bytes(self) -> dict[str, int]:
        """Bytes over HTTP by phase, all parties and rounds."""
        totals: dict[str, int] = {}
        for report in self.rounds:
            for phase, count in report.bytes.items():
                totals[phase] = totals.get(phase, 0) + count
        return totals

    def as_dict(self) -> dict[str, Any]:
        """Return the run as JSON values."""
        options = self.options
        committee = options.committee
        return {
            "dataset": options.dataset,
            "model": options.model,
            "parameters": self.dimension,
            "owners": options.owners,
            "committee": [committee.servers, committee.privacy, committee.errors],
            "committee_mode": options.committee_mode,
            "committee_servers": self.committee,
            "chain": options.chain_url or "embedded",
            "seed": options.seed,
            "machine": machine(),
            "rounds_settled": len(self.settled),
            "rounds_opened": len(self.rounds),
            "accuracy": self.rounds[-1].accuracy if self.rounds else None,
            "plain_accuracy": self.plain_accuracies[-1] if self.plain_accuracies else None,
            "accepted": self.accepted,
            "rejected": self.rejected,
            "named_servers": self.named_servers,
            "refused": {owner: reason for owner, (_, reason) in self.refused.items()},
            "exact_sums": all(report.exact_sum for report in self.settled),
            "predicted_clipping_rate": self.clipping_rate,
            "clipped": sum(report.clipped_owners for report in self.rounds),
            "gas": self.gas,
            "gas_per_round": self.gas_per_round,
            "gas_first_round": self.rounds[0].round_gas if self.rounds else 0,
            "balance_check": self.books_close,
            "balances": [
                {**asdict(balance), "adds_up": balance.adds_up} for balance in self.balances
            ],
            "contract_wei": self.contract_wei,
            "burnt_wei": self.burnt_wei,
            "slashes": [asdict(slash) for slash in self.slashes],
            "seconds": {phase: round(value, 3) for phase, value in self.seconds.items()},
            "total_seconds": round(self.total_seconds, 2),
            "bytes": self.bytes,
            "plain_accuracies": self.plain_accuracies,
            "rounds": [asdict(report) for report in self.rounds],
        }


def machine() -> str:
    """Return what the numbers were measured on."""
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _number(name: str) -> int:
    return int(name.rsplit(" ", 1)[-1])
