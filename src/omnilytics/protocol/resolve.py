"""The verdict of a round, as a pure function of its evidence (protocol.md section 6.6).

Every server computes it for itself and signs a settlement only if its own result is the proposed
one. All signatures in the evidence have been checked before (settlement.py, words.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

from omnilytics.foundation.units import Address, Hash32
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.sharing.codewords import decode_joint, is_extension_codeword
from omnilytics.validity.word import Word
from omnilytics.wire.hashing import tagged_hash

OpeningCheck = Callable[[Address, int], bool]
"""Whether a held opening of (owner, server) matches the commitment and gives the signed word."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a transcript says, with all signatures checked.

    Args:
        owners: The sealed owners in the manifest's order.
        words: For each server that sent a word for every owner, its words in that order.
        convicted: Servers that signed two different words under one key.
        opening_convicts: Checks a published opening; False where there is none.
        seed: The round's challenge seed, which also breaks ties when too many owners pass.
    """

    owners: tuple[Address, ...]
    words: Mapping[int, tuple[Word, ...]]
    convicted: frozenset[int]
    opening_convicts: OpeningCheck
    seed: Hash32


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Who is accepted, who is not and why, and which servers stand."""

    accepted: tuple[Address, ...]
    """Accepted owners, sorted by address."""
    rejected: Mapping[Address, str]
    standing: tuple[int, ...]
    """V: servers with a word for every owner and without fault."""
    faults: Mapping[int, str]
    accused: tuple[tuple[Address, int], ...]
    """(owner, server) whose word is off the owner's codeword."""

    @property
    def v_bitmap(self) -> int:
        """V as the contract reads it: bit j - 1 for server j."""
        return sum(1 << (server - 1) for server in self.standing)


def resolve(evidence: Evidence, parameters: TaskParameters) -> Resolution:
    """Decide a round; numbers in comments are the steps of protocol.md section 6.6."""
    committee, quorum = parameters.committee, parameters.quorum
    faults = dict.fromkeys(evidence.convicted, "signed two different words for one owner")
    # (1) convicted servers and those without a word for every owner do not count
    present = {server for server in evidence.words if server not in evidence.convicted}
    rejected: dict[Address, str] = {}
    agreeing: dict[Address, frozenset[int]] = {}
    for place, owner in enumerate(evidence.owners):
        words = {server: evidence.words[server][place] for server in present}
        # (2) c and d jointly, on one set of at least n - e servers (!)
        together = decode_joint(words, committee)
        if together is None:
            rejected[owner] = _why_not(words, parameters)
        else:
            agreeing[owner] = frozenset(together)
    # (3) an accused server is believed if its opening convicts the owner, else it is at fault
    accused = tuple(
        (owner, server) for owner in agreeing for server in sorted(present - agreeing[owner])
    )
    for owner, server in accused:
        if evidence.opening_convicts(owner, server):
            rejected[owner] = f"dealt server {server} a share that is off its own codeword"
    for owner, server in accused:
        if owner not in rejected:
            faults.setdefault(server, "sent words that are off the owners' codewords")
    # (4) without the servers at fault, n - e must still agree
    standing = tuple(sorted(present - faults.keys()))
    passing = []
    for owner, servers in agreeing.items():
        if owner in rejected:
            continue
        if len(servers - faults.keys()) >= quorum:
            passing.append(owner)
        else:
            rejected[owner] = "fewer than n - e servers without fault agree on it"
    # (5) at most max_owners, chosen by the seed
    chosen = sorted(passing, key=lambda owner: tagged_hash("lot", evidence.seed, owner))
    for owner in chosen[parameters.max_owners :]:
        rejected[owner] = "valid, but more owners passed than the task pays for"
    return Resolution(
        accepted=tuple(sorted(chosen[: parameters.max_owners])),
        rejected=rejected,
        standing=standing,
        faults=faults,
        accused=accused,
    )


def _why_not(words: Mapping[int, Word], parameters: TaskParameters) -> str:
    """Say what the words of a rejected owner show; a report only, the verdict does not use it."""
    if len(words) < parameters.quorum:
        return "fewer than n - e servers sent words"
    for size in range(len(words), parameters.quorum - 1, -1):
        if any(_consistent(words, points, parameters) for points in combinations(words, size)):
            return "the shares are consistent, but a constraint of the norm statement does not hold"
    return "fewer than n - e servers hold shares that agree"


def _consistent(
    words: Mapping[int, Word], points: tuple[int, ...], parameters: TaskParameters
) -> bool:
    """Return whether these servers' words lie on polynomials, whatever c is at 0."""
    degree = parameters.committee.privacy
    c_values, d_values = zip(*(words[point] for point in points), strict=True)
    return is_extension_codeword(points, c_values, 2 * degree) and is_extension_codeword(
        points, d_values, degree
    )
