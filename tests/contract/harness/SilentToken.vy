# pragma version 0.4.3
"""
@title A token whose transfers return nothing, as some on the main chain do, for tests
@license Apache-2.0
"""

balances: HashMap[address, uint256]
allowances: HashMap[address, HashMap[address, uint256]]


@external
def mint(owner: address, amount: uint256):
    """
    @notice Give an account units.
    """
    self.balances[owner] += amount


@external
@view
def balanceOf(owner: address) -> uint256:
    return self.balances[owner]


@external
def approve(spender: address, amount: uint256):
    self.allowances[msg.sender][spender] = amount


@external
def transfer(receiver: address, amount: uint256):
    self.balances[msg.sender] -= amount
    self.balances[receiver] += amount


@external
def transferFrom(owner: address, receiver: address, amount: uint256):
    self.allowances[owner][msg.sender] -= amount
    self.balances[owner] -= amount
    self.balances[receiver] += amount
