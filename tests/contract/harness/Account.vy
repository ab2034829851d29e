# pragma version 0.4.3
"""
@title An account that is a contract, friendly or not, for tests
@license Apache-2.0
"""

# What it does with ether: 0 take it, 1 refuse it, 2 take it and call back, 3 burn all gas.
manner: public(uint256)
# Whom it calls back with what, how often it did, how often that worked, and what it was answered.
target: public(address)
data: public(Bytes[4096])
called: public(uint256)
succeeded: public(uint256)
answer: public(Bytes[256])


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
        worked: bool = False
        worked, self.answer = raw_call(
            self.target, self.data, max_outsize=256, revert_on_failure=False
        )
        if worked:
            self.succeeded += 1
    if self.manner == 3:
        raise UNREACHABLE  # takes all gas
