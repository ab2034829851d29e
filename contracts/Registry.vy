# pragma version 0.4.3
"""
@title OmniLytics registry
@license Apache-2.0
@notice Who takes part, and what they risk: servers with their stakes, endpoints and keys; data owners
    with their bonds; the draw of committees; and the proof and punishment of faults (protocol.md
    section 8). It serves one market, fixed at deployment. It has no owner, no upgrade path and no
    pause.

    A server can lose money in two ways. Two different words, Seeds or Finals under its own key convict
    it without anybody's help, and take its whole stake. A report signed by n - e servers of a task takes
    at most what that task's terms put at risk, and only of a server that agreed to those terms (by its
    signature, or by its standing offer when it was drawn), once in a task. A report against a data
    owner needs its signed submission and takes at most the bond the task asked for. Who convicts gets
    a quarter, who reports a twentieth; the rest is burnt, so that framing another does not pay.
@dev Stakes and bonds are ether. What was burnt stays in the contract; nothing can take it out.
"""

import eip712
import quorum

initializes: eip712
initializes: quorum[eip712 := eip712]

# Types ---------------------------------------------------------------------------------------------

MAX_SERVERS: constant(uint256) = 13

struct Risk:
    committee_hash: bytes32
    n: uint256
    e: uint256
    min_stake_wei: uint256
    min_bond_wei: uint256

interface Market:
    def risk(task: uint256) -> Risk: view

struct ServerView:
    stake_wei: uint256
    active_tasks: uint256
    since_block: uint256
    leaving_block: uint256
    free_at: uint256
    profile: uint256
    hpke_key: bytes32
    endpoint: String[256]

struct BondView:
    amount_wei: uint256
    free_at: uint256

struct Draw:
    draws: uint256
    pinned_block: uint256
    pool: uint256
    randomness: bytes32

# Events --------------------------------------------------------------------------------------------

event ServerRegistered:
    server: indexed(address)
    stake_wei: uint256

event ProfileSet:
    server: indexed(address)
    profile: uint256
    hpke_key: bytes32
    endpoint: String[256]

event StakeAdded:
    server: indexed(address)
    amount_wei: uint256

event OfferSet:
    server: indexed(address)
    token: indexed(address)
    open: bool
    min_fee_wei: uint256
    max_stake_wei: uint256

event ServerLeaving:
    server: indexed(address)
    free_at: uint256

event StakeWithdrawn:
    server: indexed(address)
    amount_wei: uint256

event PoolSwept:
    server: indexed(address)

event ServersEnlisted:
    servers: DynArray[address, MAX_SERVERS]

event ServersReleased:
    task: indexed(uint256)
    servers: DynArray[address, MAX_SERVERS]

event DrawPinned:
    task: indexed(uint256)
    draws: uint256
    pinned_block: uint256
    pool: uint256
    fee_wei: uint256

event DrawRevealed:
    task: indexed(uint256)
    randomness: bytes32

event BondAdded:
    owner: indexed(address)
    amount_wei: uint256

event OwnerLeaving:
    owner: indexed(address)
    free_at: uint256

event BondWithdrawn:
    owner: indexed(address)
    amount_wei: uint256

event Slashed:
    party: indexed(address)
    task: indexed(uint256)
    round: uint256
    kind: uint256
    evidence_hash: bytes32
    amount_wei: uint256
    reporter: address
    share_wei: uint256

# Constants -----------------------------------------------------------------------------------------

_FAULT: constant(bytes32) = keccak256(
    "Fault(uint256 task,uint256 round,address party,uint256 kind,bytes32 evidence_hash)"
)
_SUBMISSION: constant(bytes32) = keccak256(
    "Submission(uint256 task,uint256 round,bytes32 commitment)"
)
_WORD: constant(bytes32) = keccak256(
    "Word(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed,address owner,bytes32 commitment,bytes32 word)"
)
_SEED: constant(bytes32) = keccak256(
    "Seed(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed)"
)
_FINAL: constant(bytes32) = keccak256("Final(uint256 task,uint256 round,bytes32 accepted_root)")

# Kinds of faults. The first two are reported by a quorum, the others prove themselves.
SERVER_FAULT: constant(uint256) = 1
OWNER_FAULT: constant(uint256) = 2
TWO_WORDS: constant(uint256) = 3
TWO_SEEDS: constant(uint256) = 4
TWO_FINALS: constant(uint256) = 5

# The reporter's share of what is slashed is one part in this many.
CONVICTION_PARTS: constant(uint256) = 4
REPORT_PARTS: constant(uint256) = 20

UNBONDING_SECONDS: constant(uint256) = 14 * 86400

# A draw uses PREVRANDAO of the block this many after the request, in the blocks after that one and as
# long as BLOCKHASH reaches it. The pool does not shrink meanwhile.
DRAW_DELAY: constant(uint256) = 4
DRAW_BLOCKS: constant(uint256) = 256
MAX_DRAW_STEPS: constant(uint256) = 256

# Server.standing: stake 96 | unclosed tasks 32 | since block 40 | leaving block 40 | leaving time 48.
# Not zero while registered: `since block` is the one in which the stake last grew.
_TASKS: constant(uint256) = 96
_SINCE: constant(uint256) = 128
_LEAVING_BLOCK: constant(uint256) = 168
_LEAVING_TIME: constant(uint256) = 208
_ONE_TASK: constant(uint256) = 1 << 96
# Server.place: place in the pool, from 1, 32 | profiles so far 16. Both outlive the registration.
_PROFILES: constant(uint256) = 32
# Bond: amount 96 | leaving time 48.
_BOND_TIME: constant(uint256) = 96
# Offer: least fee 96 | most at risk 96 | block of the offer 64. Zero without one.
_MAX_STAKE: constant(uint256) = 96
_OFFER_BLOCK: constant(uint256) = 192

_M16: constant(uint256) = 2**16 - 1
_M32: constant(uint256) = 2**32 - 1
_M40: constant(uint256) = 2**40 - 1
_M96: constant(uint256) = 2**96 - 1

# Storage -------------------------------------------------------------------------------------------

struct Server:
    standing: uint256
    place: uint256

struct Profile:
    hpke_key: bytes32
    endpoint: String[256]

# The market this registry serves.
MARKET: immutable(address)
# Smallest stake of a server, in wei.
MIN_STAKE_WEI: immutable(uint256)
# What a draw costs, in wei; it is burnt.
DRAW_FEE_WEI: immutable(uint256)

# What slashing and draws have burnt so far, in wei.
burnt_wei: public(uint256)
# Number of places of the pool that committees are drawn from, and who has each.
pool_size: public(uint256)
pool: public(HashMap[uint256, address])
# Up to this block places are not removed: a draw is under way.
draws_until: public(uint256)
# The latest draw of each task's committee.
draws: public(HashMap[uint256, Draw])
# When each task's stakes were released, in seconds.
released_at: public(HashMap[uint256, uint256])
# What was judged, by keccak256(abi.encode(task, round, party, whether by its own signatures)); reports
# against servers count as of round 0.
judged: public(HashMap[bytes32, bool])

_servers: HashMap[address, Server]
_profiles: HashMap[address, HashMap[uint256, Profile]]
# By server and token.
_offers: HashMap[address, HashMap[address, uint256]]
_bonds: HashMap[address, uint256]


@deploy
def __init__(market: address, min_stake_wei: uint256, draw_fee_wei: uint256):
    """
    @notice Deploy the registry of a market.
    @param market The market, which is deployed next and checks that it is meant.
    @param min_stake_wei Smallest stake of a server, in wei; at least 1.
    @param draw_fee_wei What a draw of a committee costs, in wei; at least 1.
    """
    assert min_stake_wei > 0 and min_stake_wei <= _M96, "bad stake"
    assert draw_fee_wei > 0 and draw_fee_wei <= _M96, "bad price"
    MARKET = market
    MIN_STAKE_WEI = min_stake_wei
    DRAW_FEE_WEI = draw_fee_wei
    eip712.__init__(market)


# Servers -------------------------------------------------------------------------------------------


@external
@payable
def register_server(endpoint: String[256], hpke_key: bytes32):
    """
    @notice Register the caller as a server; the ether sent is its stake.
    @param endpoint URL under which clients reach the server.
    @param hpke_key X25519 public key for sealed packages.
    """
    assert self._servers[msg.sender].standing == 0, "already registered"
    assert msg.value >= MIN_STAKE_WEI, "stake too small"
    # All ether there is stays below 2^96 wei.
    self._servers[msg.sender].standing = msg.value | (block.number << _SINCE)
    if self._servers[msg.sender].place & _M32 == 0:
        size: uint256 = self.pool_size
        self.pool[size] = msg.sender
        self.pool_size = size + 1
        self._servers[msg.sender].place += size + 1
    log ServerRegistered(server=msg.sender, stake_wei=msg.value)
    self._set_profile(endpoint, hpke_key)


@external
def set_profile(endpoint: String[256], hpke_key: bytes32):
    """
    @notice Change the caller's endpoint and key, for tasks created (or drawn) from now on.
    @param endpoint URL under which clients reach the server.
    @param hpke_key X25519 public key for sealed packages.
    """
    assert self._servers[msg.sender].standing != 0, "not registered"
    self._set_profile(endpoint, hpke_key)


@external
@payable
def add_stake():
    """
    @notice Add the ether sent to the caller's stake.
    """
    standing: uint256 = self._servers[msg.sender].standing
    assert standing != 0, "not registered"
    assert msg.value > 0, "stake too small"
    # A draw under way does not count it: else stakes could follow the dice.
    since: uint256 = (standing >> _SINCE) & _M40
    self._servers[msg.sender].standing = (
        standing + msg.value - (since << _SINCE) + (block.number << _SINCE)
    )
    log StakeAdded(server=msg.sender, amount_wei=msg.value)


@external
def set_offer(token: address, open: bool, min_fee_wei: uint256, max_stake_wei: uint256):
    """
    @notice Offer to be drawn for tasks that pay in a token, or withdraw the offer.
    @dev Nobody is drawn without an offer; committees that are named need a signature instead. A new
        offer counts for draws that are asked for later. It outlives the registration.
    @param token The token; the zero address is ether.
    @param open Whether the caller is to be drawn.
    @param min_fee_wei Least fee per round, in wei or the token's smallest unit.
    @param max_stake_wei The most that a task may put at risk, in wei.
    """
    assert self._servers[msg.sender].standing != 0, "not registered"
    assert min_fee_wei <= _M96 and max_stake_wei <= _M96, "bad price"
    offer: uint256 = 0
    if open:
        offer = min_fee_wei | (max_stake_wei << _MAX_STAKE) | (block.number << _OFFER_BLOCK)
    self._offers[msg.sender][token] = offer
    log OfferSet(
        server=msg.sender,
        token=token,
        open=open,
        min_fee_wei=min_fee_wei,
        max_stake_wei=max_stake_wei,
    )


@external
def leave():
    """
    @notice Join no further task. The stake is free 14 days after this and after the last task closed.
    """
    standing: uint256 = self._servers[msg.sender].standing
    assert standing != 0, "not registered"
    assert standing >> _LEAVING_TIME == 0, "already leaving"
    self._servers[msg.sender].standing = (
        standing | (block.number << _LEAVING_BLOCK) | (block.timestamp << _LEAVING_TIME)
    )
    log ServerLeaving(server=msg.sender, free_at=block.timestamp + UNBONDING_SECONDS)


@external
@nonreentrant
def withdraw_stake():
    """
    @notice Take the stake back, 14 days after leaving and after the last task closed.
    """
    standing: uint256 = self._servers[msg.sender].standing
    assert standing != 0, "not registered"
    assert (standing >> _TASKS) & _M32 == 0, "in a task"
    leaving_time: uint256 = standing >> _LEAVING_TIME
    assert leaving_time != 0, "not leaving"
    assert block.timestamp >= leaving_time + UNBONDING_SECONDS, "still unbonding"
    self._servers[msg.sender].standing = 0
    if block.number > self.draws_until:
        self._sweep(msg.sender)
    amount_wei: uint256 = standing & _M96
    log StakeWithdrawn(server=msg.sender, amount_wei=amount_wei)
    raw_call(msg.sender, b"", value=amount_wei)


@external
def sweep(server: address):
    """
    @notice Remove the place of a server that has withdrawn its stake. Not while a draw is under way.
    @param server The server.
    """
    assert self._servers[server].standing == 0, "still registered"
    assert self._servers[server].place & _M32 != 0, "no place"
    assert block.number > self.draws_until, "draw under way"
    self._sweep(server)


# Owners --------------------------------------------------------------------------------------------


@external
@payable
def add_bond():
    """
    @notice Add the ether sent to the caller's bond; one that was leaving stays.
    """
    assert msg.value > 0, "no bond"
    # All ether there is stays below 2^96 wei.
    self._bonds[msg.sender] = (self._bonds[msg.sender] & _M96) + msg.value
    log BondAdded(owner=msg.sender, amount_wei=msg.value)


@external
def leave_bond():
    """
    @notice Ask for the bond back. From now on it admits to no round; after 14 days it is free.
    """
    bond: uint256 = self._bonds[msg.sender]
    assert bond & _M96 != 0, "no bond"
    assert bond >> _BOND_TIME == 0, "already leaving"
    self._bonds[msg.sender] = bond | (block.timestamp << _BOND_TIME)
    log OwnerLeaving(owner=msg.sender, free_at=block.timestamp + UNBONDING_SECONDS)


@external
@nonreentrant
def withdraw_bond():
    """
    @notice Take the bond back, 14 days after asking for it.
    """
    bond: uint256 = self._bonds[msg.sender]
    leaving_time: uint256 = bond >> _BOND_TIME
    assert leaving_time != 0, "not leaving"
    assert block.timestamp >= leaving_time + UNBONDING_SECONDS, "still unbonding"
    self._bonds[msg.sender] = 0
    amount_wei: uint256 = bond & _M96
    log BondWithdrawn(owner=msg.sender, amount_wei=amount_wei)
    raw_call(msg.sender, b"", value=amount_wei)


# Committees: the market's calls --------------------------------------------------------------------


@external
def enlist(
    servers: DynArray[address, MAX_SERVERS],
    min_stake_wei: uint256,
    consent_hash: bytes32,
    consents: DynArray[eip712.Signature, MAX_SERVERS],
) -> uint256:
    """
    @notice Bind the stakes of servers that agreed to a task by their signatures. For the market.
    @param servers The committee, in order; distinct.
    @param min_stake_wei What each must have at stake.
    @param consent_hash hashStruct of the Consent that all of them signed.
    @param consents Their signatures, by index.
    @return Number of each one's present profile, 16 bits per committee index.
    """
    assert msg.sender == MARKET, "not the market"
    quorum.check(consent_hash, servers, 0, (1 << len(servers)) - 1, consents)
    for index: uint256 in range(len(servers), bound=MAX_SERVERS):
        member: address = servers[index]
        for other: uint256 in range(index, bound=MAX_SERVERS):
            assert servers[other] != member, "server twice"
        standing: uint256 = self._servers[member].standing
        assert standing != 0, "server not registered"
        assert standing >> _LEAVING_TIME == 0, "server leaving"
        assert standing & _M96 >= min_stake_wei, "stake too small"
    return self._bind(servers)


@external
@payable
def pin_draw(task: uint256):
    """
    @notice Burn the fee of a draw and fix the block and the pool it uses. For the market.
    @dev A draw can be asked for again only when the one before was missed. Who gives up a task and makes
        another gets another draw, for another fee and in public.
    @param task Number of the task.
    """
    assert msg.sender == MARKET, "not the market"
    assert msg.value == DRAW_FEE_WEI, "wrong draw fee"
    before: Draw = self.draws[task]
    assert before.draws == 0 or block.number > before.pinned_block + DRAW_BLOCKS, "still drawable"
    pinned: Draw = Draw(
        draws=before.draws + 1,
        pinned_block=block.number,
        pool=self.pool_size,
        randomness=empty(bytes32),
    )
    self.draws[task] = pinned
    self.burnt_wei += msg.value
    self.draws_until = block.number + DRAW_BLOCKS
    log DrawPinned(
        task=task,
        draws=pinned.draws,
        pinned_block=pinned.pinned_block,
        pool=pinned.pool,
        fee_wei=msg.value,
    )


@external
def reveal_draw(task: uint256, header: Bytes[1024]):
    """
    @notice Show the header of a draw's block, whose PREVRANDAO decides it. Anyone may.
    @dev The block's builder can try any number of block hashes, but has no choice of PREVRANDAO other
        than to leave the slot empty.
    @param task Number of the task.
    @param header The header as RLP.
    """
    pinned: Draw = self.draws[task]
    assert pinned.draws != 0 and block.number > pinned.pinned_block + DRAW_DELAY, "draw not ready"
    assert block.number <= pinned.pinned_block + DRAW_BLOCKS, "draw missed"
    assert keccak256(header) == blockhash(pinned.pinned_block + DRAW_DELAY), "wrong header"
    # A list: prefix 3, parent 33, uncles 33, beneficiary 21, three roots 33 each, bloom 259; then
    # difficulty, number, gas limit, gas used, time and extra data, each a string of at most 55 bytes;
    # then PREVRANDAO.
    at: uint256 = 3 + 33 + 33 + 21 + 3 * 33 + 259
    for member: uint256 in range(6):
        prefix: uint256 = convert(slice(header, at, 1), uint256)
        assert prefix <= 128 + 55, "wrong header"
        at += 1
        if prefix > 128:
            at += prefix - 128
    # Its prefix, 160, says 32 bytes.
    assert convert(slice(header, at, 1), uint256) == 160, "wrong header"
    randomness: bytes32 = keccak256(slice(header, at, 33))
    self.draws[task].randomness = randomness
    log DrawRevealed(task=task, randomness=randomness)


@external
def draw(
    task: uint256, n: uint256, min_stake_wei: uint256, token: address, fee_wei: uint256
) -> (DynArray[address, MAX_SERVERS], uint256):
    """
    @notice Draw a committee without replacement and bind its stakes. For the market.
    @dev The first n distinct eligible servers at places keccak256(seed, step) mod pool size, where the
        seed is keccak256(randomness, task, draws). Nothing that happens after the draw was pinned makes
        a server eligible, and places stay where they are; a server can only take itself out.
    @param task Number of the task.
    @param n Number of servers.
    @param min_stake_wei What each must have at stake.
    @param token What the task pays in; the zero address is ether.
    @param fee_wei The task's fee per round and server.
    @return The committee, and the number of each one's present profile, 16 bits per index.
    """
    assert msg.sender == MARKET, "not the market"
    pinned: Draw = self.draws[task]
    assert pinned.randomness != empty(bytes32), "draw not revealed"
    # Later, places may have moved.
    assert block.number <= pinned.pinned_block + DRAW_BLOCKS, "draw missed"
    seed: bytes32 = keccak256(abi_encode(pinned.randomness, task, pinned.draws))
    chosen: DynArray[address, MAX_SERVERS] = []
    for step: uint256 in range(MAX_DRAW_STEPS):
        if len(chosen) == n or pinned.pool == 0:
            break
        place: uint256 = convert(keccak256(abi_encode(seed, step)), uint256) % pinned.pool
        candidate: address = self.pool[place]
        if candidate in chosen:
            continue
        if self._eligible(candidate, pinned.pinned_block, min_stake_wei, token, fee_wei):
            chosen.append(candidate)
    assert len(chosen) == n, "too few servers offer"
    return chosen, self._bind(chosen)


@external
def release(task: uint256, servers: DynArray[address, MAX_SERVERS]):
    """
    @notice Free the stakes of a closed task's committee. For the market.
    @param task Number of the task.
    @param servers The committee; the market has checked it.
    """
    assert msg.sender == MARKET, "not the market"
    self.released_at[task] = block.timestamp
    for server: address in servers:
        standing: uint256 = self._servers[server].standing - _ONE_TASK
        leaving_time: uint256 = standing >> _LEAVING_TIME
        if leaving_time != 0:
            # The stake answers for this task for another unbonding period.
            standing = standing - (leaving_time << _LEAVING_TIME) + (block.timestamp << _LEAVING_TIME)
        self._servers[server].standing = standing
    log ServersReleased(task=task, servers=servers)


# Faults --------------------------------------------------------------------------------------------


@external
@nonreentrant
def report_fault(
    task: uint256,
    round: uint256,
    party: address,
    kind: uint256,
    evidence_hash: bytes32,
    servers: DynArray[address, MAX_SERVERS],
    signers: uint256,
    signatures: DynArray[eip712.Signature, MAX_SERVERS],
    commitment: bytes32,
    submission: eip712.Signature,
):
    """
    @notice Slash a party that n - e servers of a task found at fault in a round.
    @dev Takes the stake that the task asked for, once per task and server (kind 1), or the bond, once
        per round and data owner (kind 2). Reports end 14 days after the task was closed.
    @param task Number of the task.
    @param round Number of the round.
    @param party The server or data owner at fault.
    @param kind 1: a server of the committee; 2: a data owner.
    @param evidence_hash Hash of what shows the fault: the round's transcript.
    @param servers The task's servers, in order.
    @param signers Bitmap of the committee indices that signed.
    @param signatures Signatures of Fault(task, round, party, kind, evidence_hash), by index.
    @param commitment For a data owner: what it submitted in that round.
    @param submission For a data owner: its signature of Submission(task, round, commitment).
    """
    risk: Risk = self._risk(task, servers)
    released_at: uint256 = self.released_at[task]
    assert (
        released_at == 0 or block.timestamp < released_at + UNBONDING_SECONDS
    ), "too late to report"
    quorum.check(
        keccak256(abi_encode(_FAULT, task, round, party, kind, evidence_hash)),
        servers,
        risk.e,
        signers,
        signatures,
    )
    if kind == SERVER_FAULT:
        assert party in servers, "not in the committee"
        # Once in a task: the round is only the quorum's word.
        self._judge(task, 0, party, False)
        at_risk_wei: uint256 = min(self._servers[party].standing & _M96, risk.min_stake_wei)
        self._slash_stake(party, task, round, kind, evidence_hash, at_risk_wei, REPORT_PARTS)
    else:
        assert kind == OWNER_FAULT, "no such kind"
        digest: bytes32 = eip712.digest(
            eip712.separator(), keccak256(abi_encode(_SUBMISSION, task, round, commitment))
        )
        assert eip712.signer(digest, submission) == party, "not its submission"
        self._judge(task, round, party, False)
        at_risk_wei: uint256 = min(self._bonds[party] & _M96, risk.min_bond_wei)
        assert at_risk_wei > 0, "nothing at risk"
        self._bonds[party] -= at_risk_wei
        self._reward(party, task, round, kind, evidence_hash, at_risk_wei, REPORT_PARTS)


@external
@nonreentrant
def convict_of_two_words(
    task: uint256,
    round: uint256,
    submissions_root: bytes32,
    seed: bytes32,
    owner: address,
    commitment: bytes32,
    words: bytes32[2],
    signatures: eip712.Signature[2],
    server: address,
    servers: DynArray[address, MAX_SERVERS],
):
    """
    @notice Take the whole stake of a server that signed two different words under one key.
    @param task Number of the task.
    @param round Number of the round.
    @param submissions_root The words' submissions root.
    @param seed The words' challenge seed.
    @param owner The data owner they are about.
    @param commitment That owner's commitment.
    @param words The two words.
    @param signatures Signatures of Word(task, round, submissions_root, seed, owner, commitment, word).
    @param server Who signed both.
    @param servers The task's servers, in order.
    """
    hashes: bytes32[2] = empty(bytes32[2])
    for k: uint256 in range(2):
        hashes[k] = keccak256(
            abi_encode(_WORD, task, round, submissions_root, seed, owner, commitment, words[k])
        )
    self._convict(task, round, TWO_WORDS, hashes, signatures, server, servers)


@external
@nonreentrant
def convict_of_two_seeds(
    task: uint256,
    round: uint256,
    submissions_roots: bytes32[2],
    seeds: bytes32[2],
    signatures: eip712.Signature[2],
    server: address,
    servers: DynArray[address, MAX_SERVERS],
):
    """
    @notice Take the whole stake of a server that signed two different Seeds in one round.
    @param task Number of the task.
    @param round Number of the round.
    @param submissions_roots The submissions roots of the two.
    @param seeds The seeds of the two.
    @param signatures Signatures of Seed(task, round, submissions_root, seed).
    @param server Who signed both.
    @param servers The task's servers, in order.
    """
    hashes: bytes32[2] = empty(bytes32[2])
    for k: uint256 in range(2):
        hashes[k] = keccak256(abi_encode(_SEED, task, round, submissions_roots[k], seeds[k]))
    self._convict(task, round, TWO_SEEDS, hashes, signatures, server, servers)


@external
@nonreentrant
def convict_of_two_finals(
    task: uint256,
    round: uint256,
    accepted_roots: bytes32[2],
    signatures: eip712.Signature[2],
    server: address,
    servers: DynArray[address, MAX_SERVERS],
):
    """
    @notice Take the whole stake of a server that signed two different Finals in one round.
    @param task Number of the task.
    @param round Number of the round.
    @param accepted_roots The accepted roots of the two.
    @param signatures Signatures of Final(task, round, accepted_root).
    @param server Who signed both.
    @param servers The task's servers, in order.
    """
    hashes: bytes32[2] = empty(bytes32[2])
    for k: uint256 in range(2):
        hashes[k] = keccak256(abi_encode(_FINAL, task, round, accepted_roots[k]))
    self._convict(task, round, TWO_FINALS, hashes, signatures, server, servers)


# Views ---------------------------------------------------------------------------------------------


@external
@view
def market() -> address:
    """
    @notice The market this registry serves.
    @return Its address.
    """
    return MARKET


@external
@view
def min_stake_wei() -> uint256:
    """
    @notice Smallest stake of a server.
    @return The stake in wei.
    """
    return MIN_STAKE_WEI


@external
@view
def draw_fee_wei() -> uint256:
    """
    @notice What a draw of a committee costs.
    @return The fee in wei.
    """
    return DRAW_FEE_WEI


@external
@view
def domain_separator() -> bytes32:
    """
    @notice The EIP-712 domain separator, the market's.
    @return hashStruct of the domain.
    """
    return eip712.separator()


@external
@view
def server(account: address) -> ServerView:
    """
    @notice A registered server.
    @param account The server's account.
    @return Its standing and present profile; `since_block` is zero if it is not registered, `free_at`
        (seconds) and `leaving_block` unless it is leaving.
    """
    standing: uint256 = self._servers[account].standing
    number: uint256 = self._servers[account].place >> _PROFILES
    leaving_time: uint256 = standing >> _LEAVING_TIME
    return ServerView(
        stake_wei=standing & _M96,
        active_tasks=(standing >> _TASKS) & _M32,
        since_block=(standing >> _SINCE) & _M40,
        leaving_block=(standing >> _LEAVING_BLOCK) & _M40,
        free_at=(leaving_time + UNBONDING_SECONDS) if leaving_time != 0 else 0,
        profile=number,
        hpke_key=self._profiles[account][number].hpke_key,
        endpoint=self._profiles[account][number].endpoint,
    )


@external
@view
def profile(account: address, number: uint256) -> (bytes32, String[256]):
    """
    @notice A profile of a server, also an earlier one.
    @param account The server's account.
    @param number Number of the profile, from 1.
    @return Key and endpoint; both empty if there is none.
    """
    return (
        self._profiles[account][number].hpke_key,
        self._profiles[account][number].endpoint,
    )


@external
@view
def offer(account: address, token: address) -> (bool, uint256, uint256):
    """
    @notice For what a server offers to be drawn.
    @param account The server's account.
    @param token What the task pays in; the zero address is ether.
    @return Whether it does, its least fee per round, and the most that a task may put at risk.
    """
    offered: uint256 = self._offers[account][token]
    return (offered != 0, offered & _M96, (offered >> _MAX_STAKE) & _M96)


@external
@view
def bond(account: address) -> BondView:
    """
    @notice The bond of a data owner.
    @param account The owner's account.
    @return Its amount; `free_at` (seconds) is zero unless it was asked back.
    """
    entry: uint256 = self._bonds[account]
    leaving_time: uint256 = entry >> _BOND_TIME
    return BondView(
        amount_wei=entry & _M96,
        free_at=(leaving_time + UNBONDING_SECONDS) if leaving_time != 0 else 0,
    )


# Internal ------------------------------------------------------------------------------------------


@internal
def _set_profile(endpoint: String[256], hpke_key: bytes32):
    """
    @notice Append a profile of the caller.
    """
    assert len(endpoint) > 0, "no endpoint"
    assert hpke_key != empty(bytes32), "no key"
    number: uint256 = (self._servers[msg.sender].place >> _PROFILES) + 1
    assert number <= _M16, "too many profiles"
    self._servers[msg.sender].place += 1 << _PROFILES
    self._profiles[msg.sender][number] = Profile(hpke_key=hpke_key, endpoint=endpoint)
    log ProfileSet(server=msg.sender, profile=number, hpke_key=hpke_key, endpoint=endpoint)


@internal
def _sweep(server: address):
    """
    @notice Give the last place of the pool to the hole that a server leaves.
    """
    hole: uint256 = self._servers[server].place & _M32
    last: uint256 = self.pool_size
    mover: address = self.pool[last - 1]
    self.pool[hole - 1] = mover
    # In this order, so that the last one can remove itself.
    self._servers[mover].place = self._servers[mover].place - last + hole
    self._servers[server].place -= hole
    self.pool[last - 1] = empty(address)
    self.pool_size = last - 1
    log PoolSwept(server=server)


@internal
@view
def _eligible(
    server: address, pinned_block: uint256, min_stake_wei: uint256, token: address, fee_wei: uint256
) -> bool:
    """
    @notice Whether a server was there when a draw was pinned, with enough at stake, and offers to serve.
    """
    standing: uint256 = self._servers[server].standing
    if standing & _M96 < min_stake_wei or (standing >> _SINCE) & _M40 > pinned_block:
        return False
    leaving_block: uint256 = (standing >> _LEAVING_BLOCK) & _M40
    if leaving_block != 0 and leaving_block <= pinned_block:
        return False
    offer: uint256 = self._offers[server][token]
    return (
        offer != 0
        and offer >> _OFFER_BLOCK <= pinned_block
        and offer & _M96 <= fee_wei
        and min_stake_wei <= (offer >> _MAX_STAKE) & _M96
    )


@internal
def _bind(servers: DynArray[address, MAX_SERVERS]) -> uint256:
    """
    @notice Bind the stakes of servers to one more task.
    @return Number of each one's present profile, 16 bits per index.
    """
    profiles: uint256 = 0
    for index: uint256 in range(len(servers), bound=MAX_SERVERS):
        self._servers[servers[index]].standing += _ONE_TASK
        number: uint256 = self._servers[servers[index]].place >> _PROFILES
        profiles |= number << (16 * index)
    log ServersEnlisted(servers=servers)
    return profiles


@internal
@view
def _risk(task: uint256, servers: DynArray[address, MAX_SERVERS]) -> Risk:
    """
    @notice What a task puts at risk; refuses a list of servers that is not the task's.
    """
    risk: Risk = staticcall Market(MARKET).risk(task)
    assert keccak256(abi_encode(servers)) == risk.committee_hash, "wrong committee"
    return risk


@internal
def _judge(task: uint256, round: uint256, party: address, by_itself: bool):
    """
    @notice Refuse to judge the same thing again.
    """
    case: bytes32 = keccak256(abi_encode(task, round, party, by_itself))
    assert not self.judged[case], "already judged"
    self.judged[case] = True


@internal
def _convict(
    task: uint256,
    round: uint256,
    kind: uint256,
    hashes: bytes32[2],
    signatures: eip712.Signature[2],
    server: address,
    servers: DynArray[address, MAX_SERVERS],
):
    """
    @notice Take the whole stake of a server of the committee that signed two different messages.
    """
    self._risk(task, servers)
    assert server in servers, "not in the committee"
    assert hashes[0] != hashes[1], "the same twice"
    separator: bytes32 = eip712.separator()
    for k: uint256 in range(2):
        digest: bytes32 = eip712.digest(separator, hashes[k])
        assert eip712.signer(digest, signatures[k]) == server, "bad signature"
    self._judge(task, round, server, True)
    evidence_hash: bytes32 = keccak256(concat(hashes[0], hashes[1]))
    stake_wei: uint256 = self._servers[server].standing & _M96
    self._slash_stake(server, task, round, kind, evidence_hash, stake_wei, CONVICTION_PARTS)


@internal
def _slash_stake(
    server: address,
    task: uint256,
    round: uint256,
    kind: uint256,
    evidence_hash: bytes32,
    amount_wei: uint256,
    parts: uint256,
):
    """
    @notice Take part of a stake; at most what there is.
    """
    assert amount_wei > 0, "nothing at risk"
    self._servers[server].standing -= amount_wei
    self._reward(server, task, round, kind, evidence_hash, amount_wei, parts)


@internal
def _reward(
    party: address,
    task: uint256,
    round: uint256,
    kind: uint256,
    evidence_hash: bytes32,
    amount_wei: uint256,
    parts: uint256,
):
    """
    @notice Pay the reporter one part of what was taken and burn the rest.
    """
    share_wei: uint256 = amount_wei // parts
    self.burnt_wei += amount_wei - share_wei
    log Slashed(
        party=party,
        task=task,
        round=round,
        kind=kind,
        evidence_hash=evidence_hash,
        amount_wei=amount_wei,
        reporter=msg.sender,
        share_wei=share_wei,
    )
    raw_call(msg.sender, b"", value=share_wei)
