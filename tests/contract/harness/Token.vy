# pragma version 0.4.3
"""
@title A token, honest or not, for tests
@license Apache-2.0
"""

HONEST: constant(uint256) = 0
RETURNS_FALSE: constant(uint256) = 1  # and moves nothing
TAKES_A_FEE: constant(uint256) = 2  # one unit of every transfer is lost
CALLS_BACK: constant(uint256) = 3
BURNS_GAS: constant(uint256) = 4
LIES: constant(uint256) = 5  # says that everybody has what was named
KEEPS: constant(uint256) = 6  # returns true and moves nothing
REVERTS: constant(uint256) = 7
ADDS: constant(uint256) = 8  # one unit more arrives than was sent
RETURNS_TWO: constant(uint256) = 9  # moves, and returns a word that is no bool

manner: public(uint256)
target: public(address)
data: public(Bytes[4096])
called: public(uint256)
succeeded: public(uint256)
answer: public(Bytes[256])
lie: uint256
balances: HashMap[address, uint256]
allowances: HashMap[address, HashMap[address, uint256]]


@external
def behave(manner: uint256, target: address, data: Bytes[4096]):
    """
    @notice Choose what transfers do.
    """
    self.manner = manner
    self.target = target
    self.data = data


@external
def claim_balance(amount: uint256):
    """
    @notice Choose what a lying token says.
    """
    self.lie = amount


@external
@payable
def execute(target: address, data: Bytes[4096], amount: uint256):
    """
    @notice Call another contract.
    """
    raw_call(target, data, value=amount)


@external
@payable
def __default__():
    pass


@external
def mint(owner: address, amount: uint256):
    """
    @notice Give an account units.
    """
    self.balances[owner] += amount


@external
@view
def balanceOf(owner: address) -> uint256:
    if self.manner == LIES:
        return self.lie
    return self.balances[owner]


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowances[msg.sender][spender] = amount
    return True


@external
def transfer(receiver: address, amount: uint256) -> uint256:
    return self._move(msg.sender, receiver, amount)


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> uint256:
    self.allowances[owner][msg.sender] -= amount
    return self._move(owner, receiver, amount)


@internal
def _move(owner: address, receiver: address, amount: uint256) -> uint256:
    if self.manner == RETURNS_FALSE:
        return 0
    if self.manner == KEEPS:
        return 1
    if self.manner == REVERTS:
        raise "no, thank you"
    if self.manner == BURNS_GAS:
        raise UNREACHABLE  # takes all gas
    if self.manner == LIES:
        self.lie += amount
        return 1
    self.balances[owner] -= amount
    self.balances[receiver] += amount
    if self.manner == TAKES_A_FEE:
        self.balances[receiver] -= 1
    if self.manner == ADDS:
        self.balances[receiver] += 1
    if self.manner == CALLS_BACK:
        self.called += 1
        worked: bool = False
        worked, self.answer = raw_call(
            self.target, self.data, max_outsize=256, revert_on_failure=False
        )
        if worked:
            self.succeeded += 1
    return 2 if self.manner == RETURNS_TWO else 1
