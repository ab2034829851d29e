"""Makes tests/vectors/core_*.json and market_*.json from the reference alone.

Run this file to write them. Every case names its kind (reference_vectors.KINDS), its input, and
what comes out or that it is refused and why. All randomness is seeded: the files come out the same
each time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from vector_arithmetic import core_fixed_point, core_recovery, core_shares, core_streams, core_words
from vector_cases import Cases
from vector_contract import market_tasks
from vector_packages import core_packages
from vector_rounds import core_certificates, core_verdicts
from vector_wire import core_commitments, core_messages, core_records

FOLDER = Path(__file__).parent.parent / "vectors"
LIMIT_BYTES = 300_000


FILES: dict[str, tuple[str, Callable[[Cases], None]]] = {
    "core_streams": ("Streams, tests Z, challenges and batch weights", core_streams),
    "core_fixed_point": ("Numbers of a task, integers and elements", core_fixed_point),
    "core_shares": ("Bits of the proof and dealings", core_shares),
    "core_words": ("Words, batch words and codewords", core_words),
    "core_commitments": (
        "Tagged hashes, parts, commitments, Merkle trees, seeds",
        core_commitments,
    ),
    "core_messages": ("EIP-712 messages and signatures", core_messages),
    "core_records": ("CBOR records", core_records),
    "core_certificates": ("Certificates and manifests", core_certificates),
    "core_packages": ("HPKE, sealed packages, openings, released sums", core_packages),
    "core_verdicts": ("Verdicts, transcripts, payouts and settlements", core_verdicts),
    "core_recovery": ("Recovery of sums", core_recovery),
    "market_tasks": ("Terms, consents, allow-lists, draws, convictions", market_tasks),
}


def make(name: str) -> str:
    """The text of one file."""
    about, fill = FILES[name]
    text = (
        f"{about}; made by tests/reference/make_vectors.py from docs/protocol.md and docs/wire.md"
    )
    cases = Cases(name, text, seed=sorted(FILES).index(name) + 1)
    fill(cases)
    return cases.text()


def main() -> None:
    for name in FILES:
        text = make(name)
        assert len(text) < LIMIT_BYTES, (name, len(text))
        (FOLDER / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
