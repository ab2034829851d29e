"""`omnilytics bench wire`: bytes of packages, words, sums and a transcript as they travel."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from omnilytics.benchmark.measure import Row
from omnilytics.benchmark.parties import Parties
from omnilytics.benchmark.whole_round import WholeRound
from omnilytics.sharing.shamir import SEED_BYTES, Share
from omnilytics.validity.word import WORD_BYTES
from omnilytics.wire.package import SealedPackage
from omnilytics.wire.signatures import SIGNATURE_BYTES

_WORD = 8


def wire(dimensions: list[int], *, servers: int, owners: int = 10) -> list[dict[str, Any]]:
    """Count bytes of one round; one row for each dimension. Times and memory are None.

    Args:
        dimensions: Values of D.
        servers: n.
        owners: Data owners of the transcript, whose size does not depend on D.

    Returns:
        Rows with `bytes_per_parameter` of an owner's whole upload, and

        - `upload_bytes`, `upload_bytes_seeded` (a server that gets a seed), `upload_bytes_explicit`
          (one that gets a share), `least_bytes` ((n - t) 8 D), `beyond_percent` (upload over that);
        - what it is beyond that: `header_bytes`, `seed_bytes`, `proof_bytes` (bits and masks),
          `sealing_bytes` (keys, tags and lengths of chunks, blinds), each of all servers together;
        - `word_bytes`, `signed_word_bytes` for one owner and server, `aggregate_bytes` from one
          server to the model owner, `transcript_bytes` of a round with `owners` owners.
    """
    with tempfile.TemporaryDirectory(prefix="omnilytics-wire-") as folder:
        sample = WholeRound(Parties(16, servers, owners), Path(folder))
        sample.run()
    transcript_bytes = len(sample.transcript.encode())
    return [_row(Parties(each, servers, owners), transcript_bytes) for each in dimensions]


def _row(parties: Parties, transcript_bytes: int) -> dict[str, Any]:
    packages = parties.submission()
    committee, dimension = parties.parameters.committee, parties.dimension
    sizes = [len(package.encode()) for package in packages]
    row = Row(
        work="wire",
        dimension=dimension,
        servers=committee.servers,
        bytes_per_parameter=sum(sizes) / dimension,
    )
    least = _WORD * dimension * len(committee.explicit_points)
    return row.as_dict() | {
        "owners": parties.parameters.max_owners,
        "upload_bytes": sum(sizes),
        "upload_bytes_seeded": sizes[0],
        "upload_bytes_explicit": sizes[-1],
        "least_bytes": least,
        "beyond_percent": 100 * (sum(sizes) / least - 1),
        **_beyond(parties, packages, sum(sizes) - least),
        "word_bytes": WORD_BYTES,
        "signed_word_bytes": WORD_BYTES + SIGNATURE_BYTES,
        "aggregate_bytes": _aggregate_bytes(parties),
        "transcript_bytes": transcript_bytes,
    }


def _beyond(parties: Parties, packages: list[SealedPackage], beyond: int) -> dict[str, int]:
    """Split the bytes beyond the shares of x."""
    committee = parties.parameters.committee
    proof_elements = parties.parameters.share_elements - parties.dimension
    parts = {
        "header_bytes": sum(len(package.header.encode()) for package in packages),
        "seed_bytes": SEED_BYTES * committee.privacy,
        "proof_bytes": _WORD * proof_elements * len(committee.explicit_points),
    }
    return parts | {"sealing_bytes": beyond - sum(parts.values())}


def _aggregate_bytes(parties: Parties) -> int:
    share = Share(parties.dimension, seed=bytes(SEED_BYTES))
    answer = parties.seal_sum([share], parties.context.artefact_hash, 1)
    return sum(len(part) for part in answer)
