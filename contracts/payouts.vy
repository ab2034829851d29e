# pragma version 0.4.3
"""
@title Membership in a tree of payouts
@license Apache-2.0
@notice A leaf is keccak256(0x00 | abi.encode(owner, cumulative)); a node is
    keccak256(0x01 | smaller child | greater child); leaves are sorted by owner and an odd node moves
    up unchanged. Children are hashed in sorted order, so a proof needs no directions. The tags keep
    a node from passing as a leaf.
"""

MAX_DEPTH: constant(uint256) = 32


@internal
@pure
def root_of(
    owner: address, cumulative: uint256, proof: DynArray[bytes32, MAX_DEPTH]
) -> bytes32:
    """
    @notice The root that a data owner's leaf leads to.
    @param owner The data owner.
    @param cumulative All the leaf credits to that owner, in wei.
    @param proof The siblings on the way up.
    @return The root.
    """
    node: bytes32 = keccak256(concat(0x00, convert(owner, bytes32), convert(cumulative, bytes32)))
    for sibling: bytes32 in proof:
        if convert(node, uint256) < convert(sibling, uint256):
            node = keccak256(concat(0x01, node, sibling))
        else:
            node = keccak256(concat(0x01, sibling, node))
    return node
