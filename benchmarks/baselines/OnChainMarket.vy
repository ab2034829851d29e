# pragma version 0.4.3
"""
@title A market with everything on chain: the baseline, not part of OmniLytics
@license Apache-2.0
@notice Owners submit every entry of their vectors in slices. The contract stores all of them, checks
    each vector's squared norm, and adds the vectors that are within the bound. Whoever reads the
    chain sees every vector.
@dev A word holds 1 or 4 entries, each as a lane of 64 bits with BIAS added, so that adding words
    adds lanes without carries for fewer than 2^31 owners.
"""

LARGEST: constant(uint256) = 2**20
SLICE: constant(uint256) = 256
BIAS: constant(uint256) = 2**32
LANE_MASK: constant(uint256) = 2**64 - 1
LANES: immutable(uint256)
WORDS: immutable(uint256)
BOUND: immutable(uint256)
REWARD: constant(uint256) = 10**15

entries: HashMap[address, uint256[LARGEST]]
sums: public(uint256[LARGEST])
received: public(HashMap[address, uint256])
norms: public(HashMap[address, uint256])
added: HashMap[address, uint256]
due: public(HashMap[address, uint256])
accepted: public(uint256)


@deploy
def __init__(lanes: uint256, words: uint256, bound: uint256):
    """
    @param lanes Entries in a word, 1 or 4
    @param words Words of a vector
    @param bound The largest squared norm
    """
    assert lanes == 1 or lanes == 4, "lanes"
    assert words <= LARGEST, "words"
    LANES = lanes
    WORDS = words
    BOUND = bound


@external
def submit(words: DynArray[uint256, SLICE]):
    """
    @notice Store the sender's next words and add their squares to its norm.
    """
    start: uint256 = self.received[msg.sender]
    norm: uint256 = self.norms[msg.sender]
    assert start + len(words) <= WORDS, "too many"
    place: uint256 = start
    for word: uint256 in words:
        self.entries[msg.sender][place] = word
        place = unsafe_add(place, 1)
        rest: uint256 = word
        for _: uint256 in range(LANES, bound=4):
            lane: uint256 = rest & LANE_MASK
            rest = rest >> 64
            assert lane <= 2 * BIAS, "entry"
            size: uint256 = lane - BIAS if lane >= BIAS else BIAS - lane
            norm = unsafe_add(norm, unsafe_mul(size, size))  # < 2^20 words of 4 squares < 2^66
        assert rest == 0, "lanes"
    self.received[msg.sender] = place
    self.norms[msg.sender] = norm


@external
def accept(owner: address, count: uint256):
    """
    @notice Add the next words of an owner whose whole vector is within the bound.
    """
    assert self.received[owner] == WORDS, "incomplete"
    assert self.norms[owner] <= BOUND, "norm"
    start: uint256 = self.added[owner]
    assert count > 0 and start + count <= WORDS, "too many"
    for offset: uint256 in range(count, bound=SLICE):
        place: uint256 = unsafe_add(start, offset)
        self.sums[place] = unsafe_add(self.sums[place], self.entries[owner][place])
    self.added[owner] = start + count
    if start + count == WORDS:
        self.accepted += 1
        self.due[owner] += REWARD
