# pragma version 0.4.3
"""
@title Quorums of signatures
@license Apache-2.0
@notice A committee is an ordered list of at most 13 servers; contracts keep its hash and callers bring
    the list. Signers are a bitmap of committee indices; signatures follow in that order, so no
    server can count twice.
"""

import eip712

uses: eip712

MAX_SERVERS: constant(uint256) = 13


@internal
@pure
def check_signers(n: uint256, e: uint256, signers: uint256, given: uint256):
    """
    @notice Refuse fewer than n - e signers, signers beyond the committee, a wrong number of signatures.
    @param n Number of servers.
    @param e Error budget: how many may be missing.
    @param signers Bitmap of the committee indices that signed.
    @param given Number of signatures.
    """
    assert signers >> n == 0, "signer beyond committee"
    count: uint256 = 0
    rest: uint256 = signers
    for step: uint256 in range(MAX_SERVERS):
        if rest == 0:
            break
        rest = rest & unsafe_sub(rest, 1)
        count = unsafe_add(count, 1)
    assert count == given, "signatures missing"
    assert count + e >= n, "too few signatures"


@internal
@view
def check(
    struct_hash: bytes32,
    servers: DynArray[address, MAX_SERVERS],
    e: uint256,
    signers: uint256,
    signatures: DynArray[eip712.Signature, MAX_SERVERS],
):
    """
    @notice Refuse a message that n - e servers did not sign.
    @param struct_hash hashStruct of the message.
    @param servers The committee, in order; the caller has checked it.
    @param e Error budget: how many may be missing.
    @param signers Bitmap of the committee indices that signed.
    @param signatures Their signatures, by index.
    """
    self.check_signers(len(servers), e, signers, len(signatures))
    digest: bytes32 = eip712.digest(eip712.separator(), struct_hash)
    given: uint256 = 0
    for index: uint256 in range(len(servers), bound=MAX_SERVERS):
        if (signers >> index) & 1 == 1:
            assert eip712.signer(digest, signatures[given]) == servers[index], "bad signature"
            given = unsafe_add(given, 1)
