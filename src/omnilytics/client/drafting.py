"""From keyword arguments to a task specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

from omnilytics.chain.reader import MarketReader
from omnilytics.client.terms import Amount, Terms
from omnilytics.foundation.amounts import parse_wei
from omnilytics.foundation.errors import MalformedError, ModelError, UsageError
from omnilytics.foundation.randomness import Randomness
from omnilytics.foundation.units import Address, Wei
from omnilytics.perturbation.draws import uniform
from omnilytics.perturbation.graph import Graph
from omnilytics.perturbation.losses import Loss
from omnilytics.perturbation.profiles import Profile, ProfileName, messages
from omnilytics.validity.statement import TESTS
from omnilytics.wire.task_specification import (
    ETHER_TOKEN,
    Admission,
    CommitteeMember,
    Component,
    TaskSpecification,
    TensorSlot,
    Windows,
)

DEFAULTS: Terms = {
    "input_kind": "numbers",
    "loss": "cross_entropy",
    "profile": "gauge",
    "magnitude_bits": 1,
    "noise_groups": 1,
    "noise_scale": 0.01,
    "name": "task",
    "description": "",
    "preprocessing": "",
    "contact": "not given",
    "model_licence": "not given",
    "committee": "drawn",
    "servers": 5,
    "rounds": 40,
    "min_owners": 2,
    "max_owners": 10,
    "owners": (),
    "reward": "0.001 ether",
    "fee": "0.0005 ether",
    "opening_fee": "0.001 ether",
    "stake": "0.1 ether",
    "bond": 0,
    "windows": "standard",
    "window": {},
    "batch_size": 32,
    "learning_rate": 1e-3,
    "calibration": "training",
    "fractional_bits": 16,
}
FINE_FRACTIONAL_BITS = 22
"""Default outside the profile gauge, where recovery enlarges what rounding leaves."""
COMMITTEES = {3: (1, 0), 5: (1, 1), 7: (2, 1), 10: (3, 1), 11: (3, 2), 13: (4, 1)}
"""Privacy and errors by servers, where a buyer does not say."""
WINDOWS: dict[str, dict[str, int]] = {
    "standard": {
        "submission_seconds": 600,
        "forced_seconds": 120,
        "complaint_seconds": 60,
        "seal_seconds": 120,
        "rotation_seconds": 30,
        "delta_blocks": 2,
        "confirmations": 6,
        "words_blocks": 15,
        "openings_blocks": 30,
        "settlement_blocks": 100,
    },
    # For development chains with a block a second.
    "quick": {
        "submission_seconds": 20,
        "forced_seconds": 5,
        "complaint_seconds": 4,
        "seal_seconds": 40,
        "rotation_seconds": 8,
        "delta_blocks": 1,
        "confirmations": 1,
        "words_blocks": 8,
        "openings_blocks": 14,
        "settlement_blocks": 60,
    },
}


def complete(terms: Mapping[str, Any]) -> Terms:
    """Return terms with the defaults of what is not given; raises UsageError on an unknown one."""
    for name in terms.keys() - Terms.__annotations__.keys():
        near = get_close_matches(name, Terms.__annotations__, n=1)
        raise UsageError(
            "unknown term", got=name, hint=f"did you mean {near[0]}?" if near else None
        )
    found: dict[str, Any] = {**DEFAULTS, **terms}
    if "fractional_bits" not in terms and found["profile"] != DEFAULTS["profile"]:
        found["fractional_bits"] = FINE_FRACTIONAL_BITS
    return cast("Terms", found)


def amount_wei(amount: Amount) -> Wei:
    """Return an amount of the user's in wei."""
    return Wei(amount) if isinstance(amount, int) else parse_wei(amount)


def make_specification(
    terms: Terms,
    market: MarketReader,
    *,
    graph: Graph,
    profile: Profile,
    scales: Mapping[str, float],
    model_owner: Address,
    hpke_key: bytes,
) -> TaskSpecification:
    """Return the specification of complete terms.

    Raises:
        UsageError: Terms that cannot be, or not together.
        ChainError: A server is not registered.
    """
    members = _members(terms["committee"], market)
    servers = len(members) or terms["servers"]
    privacy, errors = _thresholds(terms, servers)
    owners = tuple(sorted({read_address(owner) for owner in terms["owners"]}))
    try:
        admission = Admission.from_plain(
            {
                "mode": "listed" if owners else "open",
                "owners": owners,
                "min_bond_wei": amount_wei(terms["bond"]),
            }
        )
        return TaskSpecification.from_plain(
            {
                "title": terms.get("title", terms["name"]),
                "description": terms["description"],
                "model_licence": terms["model_licence"],
                "contact": terms["contact"],
                "servers": servers,
                "committee": members,
                "committee_mode": "named" if members else "drawn",
                "min_stake_wei": amount_wei(terms["stake"]),
                "privacy": privacy,
                "errors": errors,
                "tests": TESTS,
                "fractional_bits": terms["fractional_bits"],
                "components": draft_components(graph, profile, scales),
                "profile": profile.name.value,
                "magnitude_bits": profile.magnitude_bits,
                "noise_groups": profile.noise_groups,
                "noise_factors": profile.noise_factors,
                "noise_scale": profile.noise_scale,
                "input_kind": graph.input_kind.value,
                "input_shape": graph.input_shape,
                "preprocessing": terms["preprocessing"],
                "loss": str(terms["loss"]),
                "rounds": terms["rounds"],
                "max_rounds": terms.get("max_rounds", terms["rounds"]),
                "min_owners": terms["min_owners"],
                "max_owners": terms["max_owners"],
                "reward_wei": amount_wei(terms["reward"]),
                "fee_wei": amount_wei(terms["fee"]),
                "opening_fee_wei": amount_wei(terms["opening_fee"]),
                "token": ETHER_TOKEN,
                "admission": admission,
                "windows": _windows(terms, errors),
                "model_owner": model_owner,
                "model_owner_hpke_key": hpke_key,
            }
        )
    except MalformedError as error:
        raise UsageError(f"the terms cannot be: {error.message}") from None


def read_address(text: str) -> Address:
    """Return the address that a text shows; raises UsageError."""
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        address = b""
    if len(address) != 20:
        raise UsageError("not an address", got=text[:60], want="0x and 40 hexadecimal digits")
    return Address(address)


def changed_terms(new: TaskSpecification, old: TaskSpecification) -> list[str]:
    """Return the fields that differ, but for what is measured or read from the chain."""
    same = {"components", "committee", "noise_factors"}
    return [
        name
        for name in TaskSpecification.model_fields
        if name not in same and getattr(new, name) != getattr(old, name)
    ]


def _members(committee: Sequence[str] | str, market: MarketReader) -> tuple[CommitteeMember, ...]:
    if committee == "drawn":
        return ()
    if isinstance(committee, str) or not committee:
        raise UsageError(
            "not a committee", got=repr(committee)[:60], want='addresses of servers, or "drawn"'
        )
    found = (market.server(read_address(server)) for server in committee)
    return tuple(
        CommitteeMember(address=each.address, endpoint=each.endpoint, hpke_key=each.hpke_key)
        for each in found
    )


def _thresholds(terms: Terms, servers: int) -> tuple[int, int]:
    if "privacy" in terms and "errors" in terms:
        return terms["privacy"], terms["errors"]
    if servers not in COMMITTEES:
        raise UsageError(
            "no usual committee has so many servers",
            got=servers,
            want=", ".join(map(str, COMMITTEES)),
            hint="give privacy= and errors=",
        )
    privacy, errors = COMMITTEES[servers]
    return terms.get("privacy", privacy), terms.get("errors", errors)


def _windows(terms: Terms, errors: int) -> Windows:
    given, chosen = terms["windows"], dict(terms["window"])
    if isinstance(given, Windows):
        values = given.model_dump() | chosen
    elif given in WINDOWS:
        values = WINDOWS[given] | chosen
        turns = values["complaint_seconds"] + (errors + 1) * values["rotation_seconds"]
        if "seal_seconds" not in chosen:  # larger committees need more turns
            values["seal_seconds"] = max(values["seal_seconds"], turns)
    else:
        raise UsageError("unknown windows", got=str(given)[:60], want=" or ".join(WINDOWS))
    return Windows.from_plain(values)


def draft_profile(
    terms: Terms, graph: Graph, old: TaskSpecification | None, randomness: Randomness
) -> Profile:
    """Return the profile of complete terms; its public factors of noise are drawn here.

    Args:
        terms: Complete.
        graph: The traced graph.
        old: What is published already, whose factors stay.
        randomness: For the factors; they are no secret.

    Raises:
        UsageError: The graph or the loss cannot have the profile.
    """
    try:
        name = ProfileName(terms["profile"])
    except ValueError:
        raise UsageError(
            "unknown profile", got=str(terms["profile"])[:60], want=" or ".join(ProfileName)
        ) from None
    try:
        if name is ProfileName.SCALES:
            return Profile(name=name, magnitude_bits=terms["magnitude_bits"])
        if name is ProfileName.GAUGE:
            return Profile()
        if str(terms["loss"]) != Loss.MSE.value:
            raise UsageError("the profile noise needs the loss mse", got=str(terms["loss"]))
        outputs = graph.output_shape[-1]
        # Between 0.5 and 1.5: no output goes without, none drowns the others.
        drawn = tuple(float(each) for each in 0.5 + uniform(outputs, randomness))
        profile = Profile(
            name=name,
            noise_groups=terms["noise_groups"],
            noise_factors=old.noise_factors if old and old.noise_factors else drawn,
            noise_scale=float(terms["noise_scale"]),
        )
        messages(graph, profile)
    except ModelError as error:
        raise UsageError(error.message, got=error.got, want=error.want, hint=error.hint) from None
    return profile


def draft_components(
    graph: Graph, profile: Profile, scales: Mapping[str, float]
) -> tuple[Component, ...]:
    """Return the components of what owners send, with their published scales.

    Raises:
        UsageError: Scales of other messages than these.
    """
    parts = messages(graph, profile)
    for name in scales.keys() ^ {name for part in parts.values() for name in part}:
        raise UsageError("scales are not those of the module", got=str(name)[:80])
    return tuple(
        Component(
            name=component,
            tensors=tuple(
                TensorSlot(name=name, shape=shape, scale=float(scales[name]))
                for name, shape in part.items()
            ),
        )
        for component, part in parts.items()
    )
