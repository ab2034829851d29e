# pragma version 0.4.3
"""
@title The codeword check alone, for tests
@license Apache-2.0
"""

import codeword


@external
@pure
def on_codewords(words: DynArray[bytes32, 13], posted: uint256, n: uint256, t: uint256) -> bool:
    """
    @notice See codeword.on_codewords.
    """
    return codeword.on_codewords(words, posted, n, t)
