"""An owner's Shamir sharing with seeded shares (protocol.md section 4, Shamir 1979).

Server j sits at point j. Its share is one long vector: x, bits, M0 (two elements, one of E),
M1 (two elements). Servers 1..t get 32-byte seeds that expand to their share (streams.py); the
shares of t+1..n follow from the secret at 0 and those expansions, by forward differences.

The commitment to the shares of x comes before the bits exist (section 5), hence two steps of one
`Dealer`: `share_vector`, then `share_proof` under the same seeds.

Not guaranteed: anything about dealers that do not use this code; servers check (section 6.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.field import MODULUS, FieldVector, require_canonical
from omnilytics.algebra.streams import BLOCK_ELEMENTS, LABEL_SHARE, Stream
from omnilytics.foundation.errors import MalformedError, UsageError
from omnilytics.foundation.randomness import Randomness
from omnilytics.sharing.committee import Committee

SEED_BYTES: Final = 32
MASK_ELEMENTS: Final = 4
"""M0 and M1, one element of E each."""


@dataclass(frozen=True, eq=False)
class Share:
    """One server's share of one submission: a seed, or the elements themselves.

    Attributes:
        length: Elements it has: D + bits + 4.
        seed: 32 bytes, or None.
        explicit: uint64, shape (length,), or None.

    Raises:
        MalformedError: Unless exactly one of the two is given, of the right size, canonical.
    """

    length: int
    seed: bytes | None = None
    explicit: FieldVector | None = None

    def __post_init__(self) -> None:
        if (self.seed is None) == (self.explicit is None):
            raise MalformedError("a share is either a seed or explicit")
        if self.seed is not None and len(self.seed) != SEED_BYTES:
            raise MalformedError("seed of wrong size", got=len(self.seed), want=SEED_BYTES)
        if self.explicit is not None:
            if self.explicit.shape != (self.length,):
                raise MalformedError(
                    "share of wrong length", got=self.explicit.shape, want=self.length
                )
            require_canonical(self.explicit)

    def __repr__(self) -> str:
        kind = "explicit" if self.seed is None else "seeded"
        return f"Share({kind}, {self.length} elements, contents hidden)"

    def elements(self, start: int, count: int) -> FieldVector:
        """Return elements start, start+1, ..., `count` of them; do not write to them.

        Raises:
            UsageError: If they reach beyond the share.
        """
        if not 0 <= start <= start + count <= self.length:
            raise UsageError("beyond the share", got=(start, count), want=self.length)
        if self.explicit is not None:
            return self.explicit[start : start + count]
        assert self.seed is not None
        return Stream(LABEL_SHARE, self.seed).elements(start, count)


class Dealer:
    """Shares one submission; single use, since a seed must not mask two secrets.

    Args:
        committee: The servers.
        dimension: D, entries of x.
        bit_count: Bits of the proof.
        seeds: t secret seeds of 32 bytes, distinct, for the servers 1..t.

    Raises:
        UsageError: If the seeds are not t distinct ones of 32 bytes.
    """

    def __init__(
        self, committee: Committee, dimension: int, bit_count: int, seeds: Sequence[bytes]
    ) -> None:
        if len(seeds) != committee.privacy or len(set(seeds)) != len(seeds):
            raise UsageError("wants t distinct seeds", want=committee.privacy, got=len(seeds))
        if any(len(seed) != SEED_BYTES for seed in seeds):
            raise UsageError("seed of wrong size", want=f"{SEED_BYTES} bytes")
        self.committee = committee
        self.dimension = dimension
        self.bit_count = bit_count
        self._seeds = tuple(seeds)
        self._streams = [Stream(LABEL_SHARE, seed) for seed in seeds]
        rows = len(committee.explicit_points)
        self._explicit = np.empty((rows, self.length), dtype=np.uint64)
        self._steps = 0  # 1 once x is shared, 2 once the proof is

    def __repr__(self) -> str:
        return f"Dealer({self.committee}, contents hidden)"

    @property
    def length(self) -> int:
        """Elements of a share."""
        return self.dimension + self.bit_count + MASK_ELEMENTS

    def share_vector(self, vector: FieldVector) -> FieldVector:
        """Share x.

        Args:
            vector: Shape (D,), canonical.

        Returns:
            The explicit shares of x, shape (n - t, D): row k belongs to server t + 1 + k. A view.
        """
        self._advance(to=1)
        self._require_length(vector, self.dimension)
        self._share(vector, 0)
        return self._explicit[:, : self.dimension]

    def share_proof(self, bits: FieldVector, randomness: Randomness) -> FieldVector:
        """Share the proof's bits and draw the masks, after `share_vector`.

        Args:
            bits: Shape (bit_count,), zeros and ones for an honest owner.
            randomness: For M0's explicit free values and M1's secret.

        Returns:
            The explicit shares of bits, M0, M1, shape (n - t, bit_count + 4). A view.
        """
        self._advance(to=2)
        self._require_length(bits, self.bit_count)
        self._share(bits, self.dimension)
        self._share_zero_mask(self.length - 4, randomness)
        self._share(random_elements(2, randomness), self.length - 2)
        return self._explicit[:, self.dimension :]

    def shares(self) -> list[Share]:
        """Return the servers' shares, server 1 first, after both steps."""
        self._advance(to=3)
        self._steps = 2
        seeded = [Share(self.length, seed=seed) for seed in self._seeds]
        return seeded + [Share(self.length, explicit=row) for row in self._explicit]

    def _advance(self, *, to: int) -> None:
        if self._steps != to - 1:
            raise UsageError("share the vector once, then the proof once, then take the shares")
        self._steps = to

    def _require_length(self, vector: FieldVector, length: int) -> None:
        if vector.shape != (length,):
            raise UsageError("secret of wrong length", got=vector.shape, want=length)
        require_canonical(vector)

    def _share(self, secret: FieldVector, column: int) -> None:
        """Share a vector at degree t onto the columns from `column` on, block by block."""
        t = self.committee.privacy
        start = column
        while start < column + len(secret):
            end = min((start // BLOCK_ELEMENTS + 1) * BLOCK_ELEMENTS, column + len(secret))
            table = np.empty((t + 1, end - start), dtype=np.uint64)
            table[0] = secret[start - column : end - column]
            for point, stream in enumerate(self._streams, start=1):
                stream.elements_into(start, table[point])
            kernels.current().extend_shares(table, self._explicit, start)
            start = end

    def _share_zero_mask(self, column: int, randomness: Randomness) -> None:
        """Share M0: zero, at degree 2t.

        2t values are free (t from seeds, t drawn here): with only t it would have degree t, and
        the words would leak the quadratic form's higher coefficients.
        """
        t = self.committee.privacy
        table = np.zeros((2 * t + 1, 2), dtype=np.uint64)
        for point, stream in enumerate(self._streams, start=1):
            table[point] = stream.elements(column, 2)
        table[t + 1 :] = random_elements(2 * t, randomness).reshape(t, 2)
        self._explicit[:t, column : column + 2] = table[t + 1 :]
        kernels.current().extend_shares(table, self._explicit[t:], column)


def share_submission(
    vector: FieldVector,
    bits: FieldVector,
    *,
    committee: Committee,
    seeds: Sequence[bytes],
    randomness: Randomness,
) -> list[Share]:
    """Return all shares of a submission in one step, for callers that need no commitment between.

    Args:
        vector: x, shape (D,), canonical.
        bits: The proof's bits.
        committee: The servers.
        seeds: t distinct secret seeds of 32 bytes.
        randomness: For the masks.

    Returns:
        The shares of the servers 1..n.
    """
    dealer = Dealer(committee, len(vector), len(bits), seeds)
    dealer.share_vector(vector)
    dealer.share_proof(bits, randomness)
    return dealer.shares()


def random_elements(count: int, randomness: Randomness) -> FieldVector:
    """Return uniformly random field elements, shape (count,)."""
    values: list[int] = []
    while len(values) < count:
        value = int.from_bytes(randomness.bytes(8), "little")
        if value < MODULUS:
            values.append(value)
    return np.array(values, dtype=np.uint64)
