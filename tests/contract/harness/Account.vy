# pragma version 0.4.3
"""
@title An account that is a contract, friendly or not, for tests
@license Apache-2.0
"""

# What it does with ether: 0 take it, 1 refuse it, 2 take it and call back, 3 burn all gas.
manner: public(uint256)
# Whom it calls back with what, and whether that worked.
target: public(address)
data: public(Bytes[4096])
called: public(uint256)
succeeded: public(uint256)


@external
def behave(manner: uint256, target: address, data: Bytes[4096]):
    """
    @notice Choose what to do with ether.
    """
    self.manner = manner
    self.target = target
    self.data = data


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
    if self.manner == 1:
        raise "no, thank you"
    if self.manner == 2:
        self.called += 1
        if raw_call(self.target, self.data, revert_on_failure=False):
            self.succeeded += 1
    if self.manner == 3:
        burnt: uint256 = 0
        for step: uint256 in range(10**6):
            burnt += step
        self.called = burnt
