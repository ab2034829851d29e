"""An owner's Shamir sharing with seeded shares (protocol.md section 4, Shamir 1979).

Server j sits at point j. Its share is one long vector: x, bits, M0 (two elements, one of E),
M1 (two elements). Servers 1..t get 32-byte seeds that expand to their share (streams.py); the
shares of t+1..n follow from the secret at 0 and those expansions, by forward differences.

The commitment to the shares of x comes before the bits exist (section 5), hence two steps of one
`Dealer`: `share_vector`, then `share_proof` under the same seeds. The explicit shares are n - t
times as long as x, so they are not kept: `rows` makes any part of them, as often as it is asked
for. Making them twice, to be hashed and to be sealed, takes less time than writing them to memory.

Not guaranteed: anything about dealers that do not use this code; servers check (section 6.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from omnilytics.algebra import kernels
from omnilytics.algebra.field import MODULUS, FieldVector, require_canonical
from omnilytics.algebra.fixed_point import IntegerVector
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
        self.seeds = tuple(seeds)
        self._streams = [Stream(LABEL_SHARE, seed) for seed in seeds]
        self._vector: FieldVector | IntegerVector | None = None
        self._proof: FieldVector | None = None
        self._points = np.empty((committee.privacy + 1) * BLOCK_ELEMENTS, dtype=np.uint64)

    def __repr__(self) -> str:
        return f"Dealer({self.committee}, contents hidden)"

    @property
    def length(self) -> int:
        """Elements of a share."""
        return self.dimension + self.bit_count + MASK_ELEMENTS

    def share_vector(self, vector: FieldVector | IntegerVector) -> None:
        """Share x, which must not change from here on.

        Args:
            vector: Shape (D,): canonical elements, or signed integers.
        """
        if self._vector is not None:
            raise UsageError("a dealer shares one vector, once")
        self._require_length(vector, self.dimension)
        self._vector = vector

    def share_proof(self, bits: FieldVector, randomness: Randomness) -> None:
        """Share the proof's bits and draw the masks, after `share_vector`.

        Args:
            bits: Shape (bit_count,), zeros and ones for an honest owner.
            randomness: For M0's explicit free values and M1's secret.
        """
        if self._vector is None or self._proof is not None:
            raise UsageError("share the vector once, then the proof once")
        self._require_length(bits, self.bit_count)
        proof = np.empty(
            (len(self.committee.explicit_points), self.length - self.dimension), np.uint64
        )
        self._share(bits, self.dimension, proof, 0)
        self._share_zero_mask(proof, randomness)
        self._share(random_elements(2, randomness), self.length - 2, proof, self.bit_count + 2)
        self._proof = proof

    def restore_proof(self, proof: FieldVector) -> None:
        """Take up the shares of a proof as `rows` gave them, in place of `share_proof`.

        Args:
            proof: Shape (n - t, bit_count + 4): elements D, D + 1, ... of each explicit share.
        """
        if self._vector is None or self._proof is not None:
            raise UsageError("share the vector once, then the proof once")
        want = (len(self.committee.explicit_points), self.length - self.dimension)
        if proof.shape != want:
            raise UsageError("proof of wrong shape", got=proof.shape, want=want)
        require_canonical(proof.reshape(-1))
        self._proof = proof

    def rows(self, start: int, stop: int) -> FieldVector:
        """Return elements start, ..., stop - 1 of the explicit shares, shape (n - t, stop - start).

        Row k belongs to server t + 1 + k.

        Raises:
            UsageError: If they reach beyond what is shared by now.
        """
        out = np.empty((len(self.committee.explicit_points), max(stop - start, 0)), np.uint64)
        self.rows_into(start, out)
        return out

    def rows_into(self, start: int, out: FieldVector) -> None:
        """Write elements start, start+1, ... of the explicit shares over `out`, a row for each.

        Args:
            start: First element.
            out: Shape (n - t, count), contiguous.

        Raises:
            UsageError: If they reach beyond what is shared by now.
        """
        stop = start + out.shape[1]
        end = self.length if self._proof is not None else self.dimension
        if self._vector is None or not 0 <= start <= stop <= end:
            raise UsageError("beyond what is shared", got=(start, stop), want=end)
        of_vector = self._vector[start : min(stop, self.dimension)]
        if len(of_vector):
            self._share(of_vector, start, out, 0)
        if stop > self.dimension:
            assert self._proof is not None
            first = max(start, self.dimension)
            out[:, first - start :] = self._proof[:, first - self.dimension : stop - self.dimension]

    def shares(self) -> list[Share]:
        """Return the servers' shares, server 1 first, in memory, after both steps."""
        if self._proof is None:
            raise UsageError("share the vector once, then the proof once, then take the shares")
        seeded = [Share(self.length, seed=seed) for seed in self.seeds]
        return seeded + [Share(self.length, explicit=row) for row in self.rows(0, self.length)]

    def _require_length(self, vector: FieldVector | IntegerVector, length: int) -> None:
        if vector.shape != (length,):
            raise UsageError("secret of wrong length", got=vector.shape, want=length)
        if vector.dtype == np.uint64:
            require_canonical(cast(FieldVector, vector))

    def _share(
        self, secret: FieldVector | IntegerVector, first: int, out: FieldVector, column: int
    ) -> None:
        """Share a secret at degree t onto the columns from `column` on, block by block.

        Args:
            secret: Elements first, first + 1, ... of what is shared.
            first: Where they are in the share, and so in the streams of the seeds.
            out: Shape (n - t, columns).
            column: Where they go.
        """
        t = self.committee.privacy
        done = 0
        while done < len(secret):
            take = min(BLOCK_ELEMENTS - (first + done) % BLOCK_ELEMENTS, len(secret) - done)
            table = self._points[: (t + 1) * take].reshape(t + 1, take)
            part = secret[done : done + take]
            if part.dtype == np.uint64:
                table[0] = part
            else:
                kernels.current().from_signed(cast(IntegerVector, part), table[0])
            for point, stream in enumerate(self._streams, start=1):
                stream.elements_into(first + done, table[point])
            kernels.current().extend_shares(table, out, column + done)
            done += take

    def _share_zero_mask(self, proof: FieldVector, randomness: Randomness) -> None:
        """Share M0: zero, at degree 2t.

        2t values are free (t from seeds, t drawn here): with only t it would have degree t, and
        the words would leak the quadratic form's higher coefficients.
        """
        t = self.committee.privacy
        table = np.zeros((2 * t + 1, 2), dtype=np.uint64)
        for point, stream in enumerate(self._streams, start=1):
            table[point] = stream.elements(self.length - MASK_ELEMENTS, 2)
        table[t + 1 :] = random_elements(2 * t, randomness).reshape(t, 2)
        proof[:t, self.bit_count : self.bit_count + 2] = table[t + 1 :]
        kernels.current().extend_shares(table, proof[t:], self.bit_count)


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
