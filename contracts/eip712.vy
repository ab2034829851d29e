# pragma version 0.4.3
"""
@title EIP-712 digests and ECDSA signers
@license Apache-2.0
@notice The domain is (name "OmniLytics", version "1", chain id, the market's address): the market and
    its registry verify signatures of one domain. It is computed once and again whenever the chain id
    is no longer the one of deployment, so that a signature made for one side of a chain split is
    worthless on the other.
@dev Signatures are in the compact form of EIP-2098: `r`, and `vs` with the recovery bit in its top
    bit and `s` below. `s` must be in the lower half of the group order (protocol.md section 7), so
    every signature has exactly one accepted form.
"""

struct Signature:
    r: bytes32
    vs: uint256

_DOMAIN_TYPE: constant(bytes32) = keccak256(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_NAME: constant(bytes32) = keccak256("OmniLytics")
_VERSION: constant(bytes32) = keccak256("1")

# Half of the order of secp256k1, rounded down.
_HALF_ORDER: constant(uint256) = (
    57896044618658097711785492504343953926418782139537452191302581570759080747168
)
_BELOW_TOP_BIT: constant(uint256) = 2**255 - 1

_MARKET: immutable(address)
_CHAIN_ID: immutable(uint256)
_SEPARATOR: immutable(bytes32)


@deploy
def __init__(market: address):
    """
    @notice Fix the domain.
    @param market The verifying contract of the domain.
    """
    _MARKET = market
    _CHAIN_ID = chain.id
    _SEPARATOR = keccak256(abi_encode(_DOMAIN_TYPE, _NAME, _VERSION, chain.id, market))


@internal
@view
def separator() -> bytes32:
    """
    @notice The domain separator on the present chain.
    @return hashStruct of the domain.
    """
    if chain.id == _CHAIN_ID:
        return _SEPARATOR
    return keccak256(abi_encode(_DOMAIN_TYPE, _NAME, _VERSION, chain.id, _MARKET))


@internal
@pure
def digest(separator: bytes32, struct_hash: bytes32) -> bytes32:
    """
    @notice What is signed for a message.
    @param separator The domain separator.
    @param struct_hash hashStruct of the message.
    @return keccak256(0x1901 | separator | struct_hash).
    """
    return keccak256(concat(0x1901, separator, struct_hash))


@internal
@pure
def signer(message_digest: bytes32, signature: Signature) -> address:
    """
    @notice The account that made a signature.
    @param message_digest The 32 bytes signed.
    @param signature A compact signature with low s.
    @return The signer, or the zero address when the signature is not one.
    """
    s: uint256 = signature.vs & _BELOW_TOP_BIT
    assert s <= _HALF_ORDER, "high s"
    return ecrecover(message_digest, unsafe_add(signature.vs >> 255, 27), signature.r, s)
