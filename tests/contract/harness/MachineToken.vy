# pragma version 0.4.3
"""
@title A token in several manners, for tests
@license Apache-2.0
@notice Manner 0 answers true, 1 answers nothing, 2 answers false where the others revert, 3 delivers
    one unit less than it takes.
"""

STANDARD: constant(uint256) = 0
SILENT: constant(uint256) = 1
SHY: constant(uint256) = 2
TAXED: constant(uint256) = 3

MANNER: immutable(uint256)

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
# Who is not given any.
blocked: public(HashMap[address, bool])


@deploy
def __init__(manner: uint256):
    """
    @notice Choose the manner.
    """
    MANNER = manner


@external
def mint(receiver: address, amount: uint256):
    """
    @notice Make tokens.
    """
    self.balanceOf[receiver] += amount


@external
def block(receiver: address, blocked: bool):
    """
    @notice Stop giving tokens to somebody, or start again.
    """
    self.blocked[receiver] = blocked


@external
def approve(spender: address, amount: uint256) -> bool:
    """
    @notice Allow to take tokens from the caller.
    """
    self.allowance[msg.sender][spender] = amount
    return True


@external
@raw_return
def transfer(receiver: address, amount: uint256) -> Bytes[32]:
    """
    @notice Give tokens.
    """
    return self._answer(self._move(msg.sender, receiver, amount))


@external
@raw_return
def transferFrom(giver: address, receiver: address, amount: uint256) -> Bytes[32]:
    """
    @notice Take tokens that one was allowed to take, and give them.
    """
    if self.allowance[giver][msg.sender] < amount:
        assert MANNER == SHY, "no allowance"
        return self._answer(False)
    self.allowance[giver][msg.sender] -= amount
    return self._answer(self._move(giver, receiver, amount))


@internal
def _move(giver: address, receiver: address, amount: uint256) -> bool:
    if self.balanceOf[giver] < amount or self.blocked[receiver]:
        assert MANNER == SHY, "no transfer"
        return False
    self.balanceOf[giver] -= amount
    self.balanceOf[receiver] += amount
    if MANNER == TAXED and amount != 0:
        self.balanceOf[receiver] -= 1
    return True


@internal
@view
def _answer(moved: bool) -> Bytes[32]:
    if MANNER == SILENT:
        return b""
    return abi_encode(moved)
