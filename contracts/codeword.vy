# pragma version 0.4.3
"""
@title Batch words of a round: are they on codewords?
@license Apache-2.0
@notice A word is c0 | c1 | d0 | d1, 8 bytes each, big-endian: two elements of the quadratic
    extension of the Goldilocks field. The server with committee index j evaluates at point j + 1.
    The c-words must lie on a polynomial of degree <= 2t with value 0 at 0, the d-words on one of
    degree <= t, limb by limb (protocol.md section 6, step 7).
@dev Values f_i at distinct points i of a set P lie on a polynomial of degree <= d exactly when
    sum_i u_i f_i i^r = 0 for r = 0 .. |P| - 2 - d, with u_i = 1 / prod_{k in P, k != i} (i - k).
    Over the full set 0..n, u_i = (-1)^(n-i) binomial(n, i) / n!; leaving a point k out multiplies
    u_i by (i - k). A common factor changes nothing (n! is invertible, n < p), so integer weights
    do and nothing is inverted. The c-words have the additional point 0 with value 0, which adds
    nothing to the sum; the d-words leave point 0 out, which multiplies their weights by i.

    Bounds: binomial(13, i) <= 1716 < 2^11; at most 10 points are missing, each factor < 2^4, so a
    weight is below 2^51; powers reach 13^13 < 2^49; a limb is below 2^64; 13 terms add 4 bits:
    every sum is below 2^168, far inside int256, so sums are reduced once, at the end.
"""

MAX_POINTS: constant(uint256) = 13
_P: constant(uint256) = 2**64 - 2**32 + 1
_P_SIGNED: constant(int256) = 2**64 - 2**32 + 1
_LIMB: constant(uint256) = 2**64 - 1


@internal
@pure
def on_codewords(
    words: DynArray[bytes32, MAX_POINTS], posted: uint256, n: uint256, t: uint256
) -> bool:
    """
    @notice Whether the posted words lie on codewords.
    @dev Reverts when a limb is not below p. The caller has checked that `posted` has exactly
        len(words) bits, all below n, and that n <= 13.
    @param words One word per set bit of `posted`, by index.
    @param posted Bitmap of the committee indices that posted a word.
    @param n Number of servers of the committee.
    @param t Privacy threshold: the degree of an honest sharing.
    @return True when both limbs of c and of d pass.
    """
    weights: int256[MAX_POINTS] = empty(int256[MAX_POINTS])
    points: int256[MAX_POINTS] = empty(int256[MAX_POINTS])
    c0: int256[MAX_POINTS] = empty(int256[MAX_POINTS])
    c1: int256[MAX_POINTS] = empty(int256[MAX_POINTS])
    d0: int256[MAX_POINTS] = empty(int256[MAX_POINTS])
    d1: int256[MAX_POINTS] = empty(int256[MAX_POINTS])

    size: int256 = convert(n, int256)
    absent: uint256 = ((1 << n) - 1) & ~posted
    binomial: int256 = 1  # (-1)^i binomial(n, i)
    count: uint256 = 0
    for index: uint256 in range(n, bound=MAX_POINTS):
        point: int256 = convert(unsafe_add(index, 1), int256)
        # Exact: binomial(n, i) = binomial(n, i - 1) * (n - i + 1) / i.
        binomial = unsafe_div(
            unsafe_mul(-binomial, unsafe_add(unsafe_sub(size, point), 1)), point
        )
        if (posted >> index) & 1 == 0:
            continue
        weight: int256 = binomial
        if absent != 0:
            for other: uint256 in range(n, bound=MAX_POINTS):
                if (absent >> other) & 1 == 1:
                    weight = unsafe_mul(
                        weight, unsafe_sub(convert(index, int256), convert(other, int256))
                    )
        word: uint256 = convert(words[count], uint256)
        limb_c0: uint256 = word >> 192
        limb_c1: uint256 = (word >> 128) & _LIMB
        limb_d0: uint256 = (word >> 64) & _LIMB
        limb_d1: uint256 = word & _LIMB
        assert (
            limb_c0 < _P and limb_c1 < _P and limb_d0 < _P and limb_d1 < _P
        ), "limb not canonical"
        weights[count] = weight
        points[count] = point
        c0[count] = convert(limb_c0, int256)
        c1[count] = convert(limb_c1, int256)
        d0[count] = convert(limb_d0, int256)
        d1[count] = convert(limb_d1, int256)
        count = unsafe_add(count, 1)

    # The caller's quorum n - e >= 2t + 1 + e keeps both differences positive.
    c_checks: uint256 = count - 2 * t
    d_checks: uint256 = count - t - 1
    for row: uint256 in range(d_checks, bound=MAX_POINTS):
        sum_c0: int256 = 0
        sum_c1: int256 = 0
        sum_d0: int256 = 0
        sum_d1: int256 = 0
        for k: uint256 in range(count, bound=MAX_POINTS):
            weight: int256 = weights[k]
            sum_c0 = unsafe_add(sum_c0, unsafe_mul(weight, c0[k]))
            sum_c1 = unsafe_add(sum_c1, unsafe_mul(weight, c1[k]))
            weight = unsafe_mul(weight, points[k])
            weights[k] = weight
            sum_d0 = unsafe_add(sum_d0, unsafe_mul(weight, d0[k]))
            sum_d1 = unsafe_add(sum_d1, unsafe_mul(weight, d1[k]))
        if row < c_checks and (sum_c0 % _P_SIGNED != 0 or sum_c1 % _P_SIGNED != 0):
            return False
        if sum_d0 % _P_SIGNED != 0 or sum_d1 % _P_SIGNED != 0:
            return False
    return True
