"""What the demo can be asked for, and which combinations are possible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from omnilytics.foundation.errors import UsageError
from omnilytics.foundation.units import Address
from omnilytics.learning.datasets import DATASET_NAMES
from omnilytics.learning.presets import PRESETS, Preset, models_for, preset_for
from omnilytics.sharing.committee import OFFERED, Committee

MIN_OWNERS = 5
"""Three cheats and two honest owners: a sum over one would be its vector."""
MAX_OWNERS = 200
SPARE_SERVERS = 2


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Checked options of one demo."""

    dataset: str
    model: str
    owners: int
    rounds: int
    committee: Committee
    committee_mode: Literal["named", "drawn"]
    seed: int
    chain_url: str | None
    contract: Address | None

    @property
    def preset(self) -> Preset:
        """How the model is trained on the data set."""
        return preset_for(self.dataset, self.model)

    @property
    def honest_owners(self) -> int:
        """All but the three cheats."""
        return self.owners - 3

    @property
    def spare_servers(self) -> int:
        """How many more servers register than the committee needs, so that a draw is one."""
        return SPARE_SERVERS if self.committee_mode == "drawn" else 0

    @property
    def has_lying_server(self) -> bool:
        """Whether the committee can stand a server that lies."""
        return self.committee.errors > 0


def check_options(
    *,
    dataset: str = "digits",
    model: str | None = None,
    owners: int = 10,
    rounds: int | None = None,
    servers: int = 5,
    privacy: int | None = None,
    errors: int | None = None,
    committee_mode: str = "named",
    seed: int = 1,
    chain_url: str | None = None,
    contract: str | None = None,
) -> DemoOptions:
    """Return the options, or raise UsageError or ConfigError with what is possible."""
    if dataset not in DATASET_NAMES:
        raise UsageError(
            "unknown data set",
            got=dataset,
            want=" or ".join(DATASET_NAMES),
            hint="omnilytics demo --dataset digits",
        )
    model = model or PRESETS[dataset].model
    if model not in models_for(dataset):
        raise UsageError(
            "no such model for this data set",
            got=f"--dataset {dataset} --model {model}",
            want=" or ".join(models_for(dataset)),
            hint=f"omnilytics demo --dataset {dataset} --model {PRESETS[dataset].model}",
        )
    preset = preset_for(dataset, model)
    if not MIN_OWNERS <= owners <= MAX_OWNERS:
        raise UsageError(
            "the demo has three cheating owners and needs two honest ones",
            got=f"--owners {owners}",
            want=f"{MIN_OWNERS} to {MAX_OWNERS}",
        )
    rounds = preset.rounds if rounds is None else rounds
    if not 1 <= rounds <= 10_000:
        raise UsageError("impossible number of rounds", got=rounds, want="1 to 10000")
    if committee_mode not in ("named", "drawn"):
        raise UsageError(
            "unknown way to find a committee",
            got=f"--committee-mode {committee_mode}",
            want="named or drawn",
        )
    if not 0 <= seed < 1 << 32:
        raise UsageError("impossible seed", got=seed, want="0 to 4294967295")
    return DemoOptions(
        dataset=dataset,
        model=model,
        owners=owners,
        rounds=rounds,
        committee=_committee(servers, privacy, errors),
        committee_mode="drawn" if committee_mode == "drawn" else "named",
        seed=seed,
        chain_url=chain_url,
        contract=_address(contract, chain_url),
    )


def _committee(servers: int, privacy: int | None, errors: int | None) -> Committee:
    """Return the offered committee with these numbers."""
    for committee in OFFERED:
        if (
            committee.servers == servers
            and privacy in (None, committee.privacy)
            and errors in (None, committee.errors)
        ):
            return committee
    offered = ", ".join(f"({c.servers},{c.privacy},{c.errors})" for c in OFFERED)
    raise UsageError(
        "no such committee is offered",
        got=f"({servers},{_any(privacy)},{_any(errors)})",
        want=f"(servers, privacy, errors) one of {offered}",
        hint="omnilytics demo --servers 5 --privacy 1 --errors 1",
    )


def _address(text: str | None, chain_url: str | None) -> Address | None:
    if text is None:
        return None
    if chain_url is None:
        raise UsageError(
            "the embedded chain is new and has no contract",
            got="--contract without --chain",
            hint=f"omnilytics demo --chain URL --contract {text}",
        )
    if not re.fullmatch("0x[0-9a-fA-F]{40}", text):
        raise UsageError("not an address", got=text, want="0x and 40 hexadecimal digits")
    return Address(bytes.fromhex(text[2:]))


def _any(value: int | None) -> str:
    return "any" if value is None else str(value)
