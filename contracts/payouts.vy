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
def leaf(owner: address, cumulative: uint256) -> bytes32:
    """
    @notice The leaf of a data owner.
    @param owner The data owner.
    @param cumulative All the leaf credits to that owner, in wei.
    @return The leaf's hash.
    """
    return keccak256(concat(0x00, convert(owner, bytes32), convert(cumulative, bytes32)))


@internal
@pure
def parent(one: bytes32, other: bytes32) -> bytes32:
    """
    @notice The node above two siblings.
    @param one A child.
    @param other The other child.
    @return The node's hash.
    """
    if convert(one, uint256) < convert(other, uint256):
        return keccak256(concat(0x01, one, other))
    return keccak256(concat(0x01, other, one))
