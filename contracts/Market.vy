# pragma version 0.4.3
"""
@title OmniLytics market
@license Apache-2.0
@notice Escrow, commitments, the public record of each round, and payment (protocol.md section 6).
    A model owner locks the money of all rounds of a task; a round is opened, sealed by the servers'
    votes and settled by their settlements; data owners and servers are paid from what was settled,
    whatever the model owner does afterwards. The contract has no owner, no upgrade path and no
    pause; a task's parameters never change.

    What it does not check: that a sealed manifest is complete, that verdicts follow from words, and
    that payout roots follow from accepted sets. Those rest on the signatures of n - e servers. The
    check that the posted words are codewords is a public record and a guard against faulty
    software, not what security rests on.
@dev A round rewrites storage slots that are never zero after `create_task`, so that every round of
    every task costs the same. Values are packed by hand; the layouts are beside the constants.
"""

import codeword
import eip712
import payouts

initializes: eip712

# Types ---------------------------------------------------------------------------------------------

MAX_SERVERS: constant(uint256) = 13

struct Terms:
    spec_hash: bytes32
    t: uint256
    e: uint256
    reward_wei: uint256
    fee_wei: uint256
    opening_fee_wei: uint256
    rounds: uint256
    min_owners: uint256
    max_owners: uint256
    submission_seconds: uint256
    seal_seconds: uint256
    delta: uint256
    confirmations: uint256
    words_blocks: uint256
    openings_blocks: uint256
    settlement_blocks: uint256

struct Settlement:
    submissions_root: bytes32
    seed: bytes32
    accepted_root: bytes32
    accepted_count: uint256
    v_bitmap: uint256
    previous_payouts_root: bytes32
    payouts_root: bytes32
    transcript_hash: bytes32

struct TaskView:
    model_owner: address
    n: uint256
    terms: Terms
    committee_hash: bytes32
    created_block: uint256
    opened_rounds: uint256
    settled_rounds: uint256
    closed: bool
    refunded: bool
    credited_wei: uint256
    claimed_wei: uint256
    payouts_root: bytes32
    previous_payouts_root: bytes32

struct RoundView:
    round: uint256
    phase: uint256
    opened_block: uint256
    submission_deadline: uint256
    seal_deadline: uint256
    submissions_root: bytes32
    count: uint256
    sealed_block: uint256
    challenge_block: uint256
    challenge_final_block: uint256
    settlement_deadline_block: uint256

struct ServerView:
    stake_wei: uint256
    active_tasks: uint256
    hpke_key: bytes32
    endpoint: String[256]

# Events --------------------------------------------------------------------------------------------

event ServerRegistered:
    server: indexed(address)
    stake_wei: uint256
    hpke_key: bytes32
    endpoint: String[256]

event ServerUnregistered:
    server: indexed(address)
    stake_wei: uint256

event TaskCreated:
    task: indexed(uint256)
    model_owner: indexed(address)
    escrow_wei: uint256
    terms: Terms
    committee: DynArray[address, MAX_SERVERS]

event RoundOpened:
    task: indexed(uint256)
    round: indexed(uint256)
    artefact_hash: bytes32
    block_hash: bytes32
    submission_deadline: uint256

event RoundSealed:
    task: indexed(uint256)
    round: indexed(uint256)
    submissions_root: bytes32
    count: uint256

event RoundSettled:
    task: indexed(uint256)
    round: indexed(uint256)
    settlement: Settlement
    signers: uint256
    words: DynArray[bytes32, MAX_SERVERS]

event RoundVoided:
    task: indexed(uint256)
    round: indexed(uint256)

event RewardClaimed:
    task: indexed(uint256)
    owner: indexed(address)
    amount_wei: uint256
    cumulative_wei: uint256

event FeesClaimed:
    task: indexed(uint256)
    server: indexed(address)
    index: uint256
    amount_wei: uint256

event TaskClosed:
    task: indexed(uint256)
    unspent_wei: uint256

event TaskRefunded:
    task: indexed(uint256)
    model_owner: indexed(address)
    amount_wei: uint256

# Constants -----------------------------------------------------------------------------------------

# Raised with every change of an interface or of a signed message.
INTERFACE_VERSION: constant(uint256) = 1

_SEAL_VOTE: constant(bytes32) = keccak256(
    "SealVote(uint256 task,uint256 round,bytes32 submissions_root,uint256 count)"
)
_SETTLEMENT: constant(bytes32) = keccak256(
    "Settlement(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed,bytes32 accepted_root,uint256 accepted_count,uint256 v_bitmap,bytes32 previous_payouts_root,bytes32 payouts_root,bytes32 transcript_hash,bytes32 word)"
)

# Root of a tree without leaves, tagged apart from leaves and nodes; it also keeps root slots warm.
EMPTY_ROOT: constant(bytes32) = keccak256(x"02")

MAX_WINDOW_SECONDS: constant(uint256) = 30 * 86400
IDLE_SECONDS: constant(uint256) = 14 * 86400

# Phases of the latest round.
IDLE: constant(uint256) = 0
OPEN: constant(uint256) = 1
SEALED: constant(uint256) = 2

# Task.progress: phase 8 | closed 1 | refunded 1 | - 6 | opened 16 | settled 16 | submission deadline 48
# | opened block 48 | sealed block 48 | sealed count 32. Never zero: the deadline starts as the time of
# creation.
_PHASE: constant(uint256) = 255
_CLOSED: constant(uint256) = 1 << 8
_REFUNDED: constant(uint256) = 1 << 9
_OPENED: constant(uint256) = 16
_SETTLED: constant(uint256) = 32
_DEADLINE: constant(uint256) = 48
_OPENED_BLOCK: constant(uint256) = 96
_SEALED_BLOCK: constant(uint256) = 144
_COUNT: constant(uint256) = 192
# What outlives a round: flags and counters.
_LASTING: constant(uint256) = (1 << 48) - 1 - 255

# Task.terms: n 8 | t 8 | e 8 | - 8 | rounds 16 | delta 8 | confirmations 8 | words 8 | openings 8
# | settlement 8 | - 8 | min_owners 32 | max_owners 32 | submission seconds 32 | seal seconds 32.
_T: constant(uint256) = 8
_E: constant(uint256) = 16
_ROUNDS: constant(uint256) = 32
_DELTA: constant(uint256) = 48
_CONFIRMATIONS: constant(uint256) = 56
_WORDS_BLOCKS: constant(uint256) = 64
_OPENINGS_BLOCKS: constant(uint256) = 72
_SETTLEMENT_BLOCKS: constant(uint256) = 80
_MIN_OWNERS: constant(uint256) = 96
_MAX_OWNERS: constant(uint256) = 128
_SUBMISSION_SECONDS: constant(uint256) = 160
_SEAL_SECONDS: constant(uint256) = 192

# Task.ledger: credited 120 | claimed 120 | a set top bit. Both are at most the escrow that was paid in,
# and all ether there is stays below 2^100 wei.
_CLAIMED: constant(uint256) = 120
# Task.attested: 16 bits per committee index | a set top bit. At most 65,535 rounds: no carry.
_WARM: constant(uint256) = 1 << 255

_M8: constant(uint256) = 2**8 - 1
_M16: constant(uint256) = 2**16 - 1
_M32: constant(uint256) = 2**32 - 1
_M48: constant(uint256) = 2**48 - 1
_M96: constant(uint256) = 2**96 - 1
_M120: constant(uint256) = 2**120 - 1
_M128: constant(uint256) = 2**128 - 1
_M160: constant(uint256) = 2**160 - 1

# Storage -------------------------------------------------------------------------------------------

struct Task:
    payer: uint256  # model owner 160 | opening fee 96
    prices: uint256  # reward 96 | fee 96 | created block 48
    terms: uint256
    progress: uint256
    spec_hash: bytes32
    committee_hash: bytes32
    submissions_root: bytes32
    payouts_root: bytes32
    previous_payouts_root: bytes32
    ledger: uint256
    attested: uint256

struct Server:
    standing: uint256  # stake 128 (all ether is below 2^100) | unclosed tasks 128; zero: not registered
    hpke_key: bytes32
    endpoint: String[256]

# Smallest stake of a server, in wei.
MIN_STAKE_WEI: immutable(uint256)

# Number of tasks created so far; ids start at 1.
task_count: public(uint256)
# Reward already paid, by task and data owner, in wei.
claimed: public(HashMap[uint256, HashMap[address, uint256]])
# Fees already paid, by task and committee index, in wei.
fees_paid: public(HashMap[uint256, HashMap[uint256, uint256]])

_tasks: HashMap[uint256, Task]
_servers: HashMap[address, Server]


@deploy
def __init__(min_stake_wei: uint256):
    """
    @notice Deploy a market.
    @param min_stake_wei Smallest stake of a server, in wei; at least 1.
    """
    assert min_stake_wei > 0 and min_stake_wei <= _M96, "bad stake"
    MIN_STAKE_WEI = min_stake_wei
    eip712.__init__()


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
    assert len(endpoint) > 0, "no endpoint"
    assert hpke_key != empty(bytes32), "no key"
    self._servers[msg.sender] = Server(standing=msg.value, hpke_key=hpke_key, endpoint=endpoint)
    log ServerRegistered(
        server=msg.sender, stake_wei=msg.value, hpke_key=hpke_key, endpoint=endpoint
    )


@external
@nonreentrant
def unregister_server():
    """
    @notice Leave the market and take the stake back; only while in no unclosed task's committee.
    """
    standing: uint256 = self._servers[msg.sender].standing
    assert standing != 0, "not registered"
    assert standing >> 128 == 0, "in a task"
    self._servers[msg.sender] = empty(Server)
    log ServerUnregistered(server=msg.sender, stake_wei=standing)
    raw_call(msg.sender, b"", value=standing)


# Tasks ---------------------------------------------------------------------------------------------


@external
@payable
def create_task(terms: Terms, committee: DynArray[address, MAX_SERVERS]) -> uint256:
    """
    @notice Create a task and lock the money of all its rounds.
    @dev The ether sent must be exactly
        rounds * (max_owners * reward + n * fee + opening fee). A registered server cannot refuse to
        be named: its stake stays until the task is closed, which anyone may do once it is idle.
    @param terms Immutable terms of the task.
    @param committee The n servers, in the order of their polynomial points; named by the caller.
    @return Number of the task, from 1.
    """
    n: uint256 = len(committee)
    self._check_terms(terms, n)
    # Bounds: 2^16 * (2^32 * 2^96 + 2^4 * 2^96 + 2^96) < 2^145.
    escrow_wei: uint256 = terms.rounds * (
        terms.max_owners * terms.reward_wei + n * terms.fee_wei + terms.opening_fee_wei
    )
    assert msg.value == escrow_wei, "wrong escrow"
    self._enlist(committee)

    task: uint256 = self.task_count + 1
    self.task_count = task
    self._tasks[task] = Task(
        payer=convert(msg.sender, uint256) | (terms.opening_fee_wei << 160),
        prices=terms.reward_wei | (terms.fee_wei << 96) | (block.number << 192),
        terms=self._packed(terms, n),
        progress=block.timestamp << _DEADLINE,
        spec_hash=terms.spec_hash,
        committee_hash=keccak256(abi_encode(committee)),
        submissions_root=EMPTY_ROOT,
        payouts_root=EMPTY_ROOT,
        previous_payouts_root=EMPTY_ROOT,
        ledger=_WARM,
        attested=_WARM,
    )
    log TaskCreated(
        task=task,
        model_owner=msg.sender,
        escrow_wei=escrow_wei,
        terms=terms,
        committee=committee,
    )
    return task


@external
@nonreentrant
def refund(task: uint256, committee: DynArray[address, MAX_SERVERS]):
    """
    @notice Close a task that has no active round and return what it did not spend.
    @dev The model owner may close at any time between rounds; anyone may once all rounds were
        opened or after 14 days without a round, so that servers get their stakes back. Claims of
        rewards and fees stay possible. A model owner that cannot take the money can try again.
    @param task Number of the task.
    @param committee The task's servers, in order.
    """
    progress: uint256 = self._tasks[task].progress
    assert progress != 0, "no such task"
    assert progress & _PHASE == IDLE, "round active"
    assert progress & _REFUNDED == 0, "already refunded"
    payer: uint256 = self._tasks[task].payer
    model_owner: address = convert(payer & _M160, address)
    terms: uint256 = self._tasks[task].terms
    self._check_committee(task, committee)
    opened: uint256 = (progress >> _OPENED) & _M16
    unspent_wei: uint256 = self._unspent(task, opened)

    if progress & _CLOSED == 0:
        if msg.sender != model_owner and opened < (terms >> _ROUNDS) & _M16:
            idle_since: uint256 = (progress >> _DEADLINE) & _M48
            assert block.timestamp > idle_since + IDLE_SECONDS, "not model owner"
        for server: address in committee:
            self._servers[server].standing -= 1 << 128
        log TaskClosed(task=task, unspent_wei=unspent_wei)

    self._tasks[task].progress = progress | _CLOSED | _REFUNDED
    paid: bool = raw_call(model_owner, b"", value=unspent_wei, revert_on_failure=False)
    if paid:
        log TaskRefunded(task=task, model_owner=model_owner, amount_wei=unspent_wei)
    else:
        self._tasks[task].progress = progress | _CLOSED


# Rounds --------------------------------------------------------------------------------------------


@external
def open_round(task: uint256, artefact_hash: bytes32) -> uint256:
    """
    @notice Open the next round on a published artefact; the opening fee becomes the committee's.
    @param task Number of the task; the caller must be its model owner.
    @param artefact_hash Hash of the perturbed model that data owners work on.
    @return Number of the round, from 1.
    """
    progress: uint256 = self._tasks[task].progress
    assert progress != 0, "no such task"
    assert msg.sender == convert(self._tasks[task].payer & _M160, address), "not model owner"
    assert progress & _CLOSED == 0, "task closed"
    assert progress & _PHASE == IDLE, "round active"
    terms: uint256 = self._tasks[task].terms
    round: uint256 = ((progress >> _OPENED) & _M16) + 1
    assert round <= (terms >> _ROUNDS) & _M16, "no rounds left"

    deadline: uint256 = block.timestamp + ((terms >> _SUBMISSION_SECONDS) & _M32)
    self._tasks[task].progress = (
        ((progress & _LASTING) + (1 << _OPENED))
        | OPEN
        | (deadline << _DEADLINE)
        | (block.number << _OPENED_BLOCK)
    )
    log RoundOpened(
        task=task,
        round=round,
        artefact_hash=artefact_hash,
        block_hash=blockhash(block.number - 1),
        submission_deadline=deadline,
    )
    return round


@external
def seal(
    task: uint256,
    submissions_root: bytes32,
    count: uint256,
    committee: DynArray[address, MAX_SERVERS],
    signers: uint256,
    signatures: DynArray[eip712.Signature, MAX_SERVERS],
):
    """
    @notice Fix the set of submissions of the open round by the votes of n - e servers.
    @param task Number of the task.
    @param submissions_root Root over the sealed (owner, commitment).
    @param count Number of sealed owners.
    @param committee The task's servers, in order.
    @param signers Bitmap of the committee indices that signed.
    @param signatures Signatures of SealVote(task, round, submissions_root, count), by index.
    """
    progress: uint256 = self._tasks[task].progress
    assert progress & _PHASE == OPEN, "round not open"
    terms: uint256 = self._tasks[task].terms
    deadline: uint256 = (progress >> _DEADLINE) & _M48
    assert block.timestamp >= deadline, "submissions open"
    assert block.timestamp < deadline + ((terms >> _SEAL_SECONDS) & _M32), "seal deadline passed"
    assert count >= (terms >> _MIN_OWNERS) & _M32, "too few owners"
    assert count <= _M32, "too many owners"
    self._check_committee(task, committee)
    self._check_signers(terms, signers, len(signatures))

    round: uint256 = (progress >> _OPENED) & _M16
    digest: bytes32 = eip712.digest(
        eip712.separator(), keccak256(abi_encode(_SEAL_VOTE, task, round, submissions_root, count))
    )
    given: uint256 = 0
    for index: uint256 in range(len(committee), bound=MAX_SERVERS):
        if (signers >> index) & 1 == 1:
            assert eip712.signer(digest, signatures[given]) == committee[index], "bad signature"
            given = unsafe_add(given, 1)

    self._tasks[task].submissions_root = submissions_root
    self._tasks[task].progress = (
        (progress & ~_PHASE) | SEALED | (block.number << _SEALED_BLOCK) | (count << _COUNT)
    )
    log RoundSealed(task=task, round=round, submissions_root=submissions_root, count=count)


@external
def settle(
    task: uint256,
    settlement: Settlement,
    committee: DynArray[address, MAX_SERVERS],
    signers: uint256,
    words: DynArray[bytes32, MAX_SERVERS],
    signatures: DynArray[eip712.Signature, MAX_SERVERS],
):
    """
    @notice Settle the sealed round: record seed, words and roots, credit owners and servers.
    @dev The seed is keccak256(abi.encode(blockhash(sealed block + delta), task, round,
        submissions_root)): four 32-byte words. It is accepted in blocks after
        sealed block + delta + confirmations, up to sealed block + settlement window.
    @param task Number of the task.
    @param settlement What the servers agreed on.
    @param committee The task's servers, in order.
    @param signers Bitmap of the committee indices that signed; a subset of V, at least n - e.
    @param words One batch word per signer, by index: c0 | c1 | d0 | d1.
    @param signatures Signatures of Settlement(task, round, settlement, own word), by index.
    """
    progress: uint256 = self._tasks[task].progress
    assert progress & _PHASE == SEALED, "round not sealed"
    terms: uint256 = self._tasks[task].terms
    round: uint256 = (progress >> _OPENED) & _M16
    self._check_settlement(task, round, progress, terms, settlement)
    self._check_committee(task, committee)
    self._check_signers(terms, signers, len(signatures))
    assert len(words) == len(signatures), "words missing"
    v_bitmap: uint256 = settlement.v_bitmap
    assert v_bitmap >> len(committee) == 0, "V beyond committee"
    assert signers & ~v_bitmap == 0, "signer outside V"

    separator: bytes32 = eip712.separator()
    attested: uint256 = self._tasks[task].attested
    given: uint256 = 0
    for index: uint256 in range(len(committee), bound=MAX_SERVERS):
        attested = unsafe_add(attested, ((v_bitmap >> index) & 1) << unsafe_mul(16, index))
        if (signers >> index) & 1 == 1:
            digest: bytes32 = eip712.digest(
                separator,
                keccak256(abi_encode(_SETTLEMENT, task, round, settlement, words[given])),
            )
            assert eip712.signer(digest, signatures[given]) == committee[index], "bad signature"
            given = unsafe_add(given, 1)
    assert codeword.on_codewords(
        words, signers, terms & _M8, (terms >> _T) & _M8
    ), "not a codeword"

    self._tasks[task].attested = attested
    # At most rounds * max_owners * reward <= escrow: stays in its 120 bits.
    self._tasks[task].ledger += settlement.accepted_count * (self._tasks[task].prices & _M96)
    self._tasks[task].previous_payouts_root = settlement.previous_payouts_root
    self._tasks[task].payouts_root = settlement.payouts_root
    self._tasks[task].progress = (progress & ~_PHASE) + (1 << _SETTLED)
    log RoundSettled(task=task, round=round, settlement=settlement, signers=signers, words=words)


@external
def void_round(task: uint256):
    """
    @notice End a round that was not sealed or not settled in time; only the opening fee is spent.
    @param task Number of the task.
    """
    progress: uint256 = self._tasks[task].progress
    phase: uint256 = progress & _PHASE
    assert phase != IDLE, "no active round"
    terms: uint256 = self._tasks[task].terms
    if phase == OPEN:
        deadline: uint256 = (progress >> _DEADLINE) & _M48
        assert block.timestamp >= deadline + ((terms >> _SEAL_SECONDS) & _M32), "still sealable"
    else:
        sealed_block: uint256 = (progress >> _SEALED_BLOCK) & _M48
        assert block.number > sealed_block + ((terms >> _SETTLEMENT_BLOCKS) & _M8), "still settleable"
    self._tasks[task].progress = progress & ~_PHASE
    log RoundVoided(task=task, round=(progress >> _OPENED) & _M16)


# Payment -------------------------------------------------------------------------------------------


@external
@nonreentrant
def claim(
    task: uint256,
    owner: address,
    cumulative_wei: uint256,
    proof: DynArray[bytes32, payouts.MAX_DEPTH],
):
    """
    @notice Pay a data owner everything that a payouts root credits to it and was not yet paid.
    @dev Anyone may send it; only the owner is paid. Whatever the roots say, a task never pays more
        rewards than its settled rounds credited.
    @param task Number of the task.
    @param owner The data owner.
    @param cumulative_wei The owner's leaf: all its rewards of this task so far.
    @param proof Path from the leaf to the current or the previous payouts root.
    """
    root: bytes32 = payouts.leaf(owner, cumulative_wei)
    for sibling: bytes32 in proof:
        root = payouts.parent(root, sibling)
    if root != self._tasks[task].payouts_root:
        assert root == self._tasks[task].previous_payouts_root, "not in payouts"
    paid_wei: uint256 = self.claimed[task][owner]
    assert cumulative_wei > paid_wei, "nothing to claim"
    amount_wei: uint256 = unsafe_sub(cumulative_wei, paid_wei)
    ledger: uint256 = self._tasks[task].ledger
    claimed_wei: uint256 = (ledger >> _CLAIMED) & _M120
    assert amount_wei <= unsafe_sub(ledger & _M120, claimed_wei), "beyond credit"

    self.claimed[task][owner] = cumulative_wei
    # Claimed stays at most credited, below 2^120: no carry.
    self._tasks[task].ledger = unsafe_add(ledger, amount_wei << _CLAIMED)
    log RewardClaimed(
        task=task, owner=owner, amount_wei=amount_wei, cumulative_wei=cumulative_wei
    )
    raw_call(owner, b"", value=amount_wei)


@external
@nonreentrant
def claim_fees(task: uint256, committee: DynArray[address, MAX_SERVERS], index: uint256):
    """
    @notice Pay a server its fees for settled rounds and its share of the opening fees.
    @dev Anyone may send it; only the server is paid.
    @param task Number of the task.
    @param committee The task's servers, in order.
    @param index The server's committee index.
    """
    self._check_committee(task, committee)
    assert index < len(committee), "no such server"
    owed_wei: uint256 = self._fees_earned(task, index)
    amount_wei: uint256 = owed_wei - self.fees_paid[task][index]
    assert amount_wei > 0, "nothing to claim"
    self.fees_paid[task][index] = owed_wei
    log FeesClaimed(task=task, server=committee[index], index=index, amount_wei=amount_wei)
    raw_call(committee[index], b"", value=amount_wei)


# Views ---------------------------------------------------------------------------------------------


@external
@view
def interface_version() -> uint256:
    """
    @notice Version of this interface and of the signed messages.
    @return The version.
    """
    return INTERFACE_VERSION


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
def domain_separator() -> bytes32:
    """
    @notice The EIP-712 domain separator.
    @return hashStruct of the domain.
    """
    return eip712.separator()


@external
@view
def server(account: address) -> ServerView:
    """
    @notice A registered server.
    @param account The server's account.
    @return Its stake, number of unclosed tasks, key and endpoint; all zero if not registered.
    """
    entry: Server = self._servers[account]
    return ServerView(
        stake_wei=entry.standing & _M128,
        active_tasks=entry.standing >> 128,
        hpke_key=entry.hpke_key,
        endpoint=entry.endpoint,
    )


@external
@view
def task(number: uint256) -> TaskView:
    """
    @notice A task: its terms and where it stands.
    @param number Number of the task.
    @return The task.
    """
    entry: Task = self._tasks[number]
    assert entry.progress != 0, "no such task"
    terms: uint256 = entry.terms
    return TaskView(
        model_owner=convert(entry.payer & _M160, address),
        n=terms & _M8,
        terms=Terms(
            spec_hash=entry.spec_hash,
            t=(terms >> _T) & _M8,
            e=(terms >> _E) & _M8,
            reward_wei=entry.prices & _M96,
            fee_wei=(entry.prices >> 96) & _M96,
            opening_fee_wei=entry.payer >> 160,
            rounds=(terms >> _ROUNDS) & _M16,
            min_owners=(terms >> _MIN_OWNERS) & _M32,
            max_owners=(terms >> _MAX_OWNERS) & _M32,
            submission_seconds=(terms >> _SUBMISSION_SECONDS) & _M32,
            seal_seconds=(terms >> _SEAL_SECONDS) & _M32,
            delta=(terms >> _DELTA) & _M8,
            confirmations=(terms >> _CONFIRMATIONS) & _M8,
            words_blocks=(terms >> _WORDS_BLOCKS) & _M8,
            openings_blocks=(terms >> _OPENINGS_BLOCKS) & _M8,
            settlement_blocks=(terms >> _SETTLEMENT_BLOCKS) & _M8,
        ),
        committee_hash=entry.committee_hash,
        created_block=entry.prices >> 192,
        opened_rounds=(entry.progress >> _OPENED) & _M16,
        settled_rounds=(entry.progress >> _SETTLED) & _M16,
        closed=entry.progress & _CLOSED != 0,
        refunded=entry.progress & _REFUNDED != 0,
        credited_wei=entry.ledger & _M120,
        claimed_wei=(entry.ledger >> _CLAIMED) & _M120,
        payouts_root=entry.payouts_root,
        previous_payouts_root=entry.previous_payouts_root,
    )


@external
@view
def round_state(number: uint256) -> RoundView:
    """
    @notice The latest round of a task.
    @param number Number of the task.
    @return The round; number 0 before the first. Fields of the seal are zero unless it is sealed.
    """
    progress: uint256 = self._tasks[number].progress
    assert progress != 0, "no such task"
    terms: uint256 = self._tasks[number].terms
    deadline: uint256 = (progress >> _DEADLINE) & _M48
    state: RoundView = RoundView(
        round=(progress >> _OPENED) & _M16,
        phase=progress & _PHASE,
        opened_block=(progress >> _OPENED_BLOCK) & _M48,
        submission_deadline=deadline,
        seal_deadline=deadline + ((terms >> _SEAL_SECONDS) & _M32),
        submissions_root=empty(bytes32),
        count=0,
        sealed_block=0,
        challenge_block=0,
        challenge_final_block=0,
        settlement_deadline_block=0,
    )
    if state.phase == SEALED:
        sealed_block: uint256 = (progress >> _SEALED_BLOCK) & _M48
        state.submissions_root = self._tasks[number].submissions_root
        state.count = progress >> _COUNT
        state.sealed_block = sealed_block
        state.challenge_block = sealed_block + ((terms >> _DELTA) & _M8)
        state.challenge_final_block = state.challenge_block + ((terms >> _CONFIRMATIONS) & _M8)
        state.settlement_deadline_block = sealed_block + ((terms >> _SETTLEMENT_BLOCKS) & _M8)
    return state


@external
@view
def attested_rounds(task: uint256, index: uint256) -> uint256:
    """
    @notice In how many settled rounds a server was in V.
    @param task Number of the task.
    @param index The server's committee index.
    @return Number of rounds.
    """
    assert index < MAX_SERVERS, "no such server"
    return (self._tasks[task].attested >> (16 * index)) & _M16


@external
@view
def fees_earned(task: uint256, index: uint256) -> uint256:
    """
    @notice All the fees a server has earned in a task, paid or not.
    @param task Number of the task.
    @param index The server's committee index.
    @return Fees in wei.
    """
    assert index < self._tasks[task].terms & _M8, "no such server"
    return self._fees_earned(task, index)


# Internal ------------------------------------------------------------------------------------------


@internal
@pure
def _check_terms(terms: Terms, n: uint256):
    """
    @notice Refuse terms that break a rule of the protocol or a bound of the packing.
    """
    t: uint256 = terms.t
    e: uint256 = terms.e
    assert t >= 1 and t <= n and e <= t, "bad threshold"
    assert n >= 2 * t + 1 + 2 * e, "too few servers"
    assert e == 0 or n >= 3 * t + e, "too few servers"
    assert terms.rounds >= 1 and terms.rounds <= _M16, "bad rounds"
    assert terms.min_owners >= 1 and terms.min_owners <= terms.max_owners, "bad owners"
    assert terms.max_owners <= _M32, "bad owners"
    assert terms.reward_wei <= _M96 and terms.fee_wei <= _M96, "bad price"
    assert terms.opening_fee_wei <= _M96, "bad price"
    assert terms.submission_seconds >= 1 and terms.seal_seconds >= 1, "bad seconds"
    assert terms.submission_seconds <= MAX_WINDOW_SECONDS, "bad seconds"
    assert terms.seal_seconds <= MAX_WINDOW_SECONDS, "bad seconds"
    assert terms.delta >= 1 and terms.delta < 256 and terms.confirmations < 256, "bad blocks"
    assert terms.delta + terms.confirmations < terms.words_blocks, "bad blocks"
    assert terms.words_blocks <= terms.openings_blocks, "bad blocks"
    assert terms.openings_blocks < terms.settlement_blocks, "bad blocks"
    # blockhash() must still know the challenge block when the last settlement may be mined.
    assert terms.delta + terms.settlement_blocks + terms.confirmations < 256, "bad blocks"


@internal
@pure
def _packed(terms: Terms, n: uint256) -> uint256:
    """
    @notice Terms in one word; `_check_terms` keeps each in its bits.
    """
    return (
        n
        | (terms.t << _T)
        | (terms.e << _E)
        | (terms.rounds << _ROUNDS)
        | (terms.delta << _DELTA)
        | (terms.confirmations << _CONFIRMATIONS)
        | (terms.words_blocks << _WORDS_BLOCKS)
        | (terms.openings_blocks << _OPENINGS_BLOCKS)
        | (terms.settlement_blocks << _SETTLEMENT_BLOCKS)
        | (terms.min_owners << _MIN_OWNERS)
        | (terms.max_owners << _MAX_OWNERS)
        | (terms.submission_seconds << _SUBMISSION_SECONDS)
        | (terms.seal_seconds << _SEAL_SECONDS)
    )


@internal
def _enlist(committee: DynArray[address, MAX_SERVERS]):
    """
    @notice Check that the servers are registered and distinct, and bind their stakes to one more task.
    """
    for index: uint256 in range(len(committee), bound=MAX_SERVERS):
        member: address = committee[index]
        for other: uint256 in range(index, bound=MAX_SERVERS):
            assert committee[other] != member, "server twice"
        standing: uint256 = self._servers[member].standing
        assert standing != 0, "server not registered"
        self._servers[member].standing = standing + (1 << 128)


@internal
@view
def _check_committee(task: uint256, committee: DynArray[address, MAX_SERVERS]):
    """
    @notice Refuse a list of servers that is not the task's.
    """
    assert keccak256(abi_encode(committee)) == self._tasks[task].committee_hash, "wrong committee"


@internal
@pure
def _check_signers(terms: uint256, signers: uint256, given: uint256):
    """
    @notice Refuse fewer than n - e signers, signers beyond the committee, a wrong number of signatures.
    """
    n: uint256 = terms & _M8
    assert signers >> n == 0, "signer beyond committee"
    count: uint256 = 0
    rest: uint256 = signers
    for step: uint256 in range(MAX_SERVERS):
        if rest == 0:
            break
        rest = rest & unsafe_sub(rest, 1)
        count = unsafe_add(count, 1)
    assert count == given, "signatures missing"
    assert count + ((terms >> _E) & _M8) >= n, "too few signatures"


@internal
@view
def _check_settlement(
    task: uint256, round: uint256, progress: uint256, terms: uint256, settlement: Settlement
):
    """
    @notice Refuse a settlement out of its window or at odds with what the contract knows.
    """
    sealed_block: uint256 = (progress >> _SEALED_BLOCK) & _M48
    challenge_block: uint256 = sealed_block + ((terms >> _DELTA) & _M8)
    assert block.number > challenge_block + ((terms >> _CONFIRMATIONS) & _M8), "seed not final"
    assert (
        block.number <= sealed_block + ((terms >> _SETTLEMENT_BLOCKS) & _M8)
    ), "settlement deadline passed"
    root: bytes32 = self._tasks[task].submissions_root
    assert settlement.submissions_root == root, "wrong submissions root"
    # Within 256 blocks: `_check_terms` bounds the settlement window.
    assert settlement.seed == keccak256(
        abi_encode(blockhash(challenge_block), task, round, root)
    ), "wrong seed"
    assert (
        settlement.previous_payouts_root == self._tasks[task].payouts_root
    ), "wrong previous root"
    count: uint256 = settlement.accepted_count
    assert count >= (terms >> _MIN_OWNERS) & _M32, "too few owners"
    assert count <= (terms >> _MAX_OWNERS) & _M32, "too many owners"
    assert count <= progress >> _COUNT, "more than sealed"


@internal
@view
def _fees_earned(task: uint256, index: uint256) -> uint256:
    """
    @notice A server's fees so far: attested rounds and an equal share of the opening fees.
    """
    attested: uint256 = (self._tasks[task].attested >> (16 * index)) & _M16
    opened: uint256 = (self._tasks[task].progress >> _OPENED) & _M16
    n: uint256 = self._tasks[task].terms & _M8
    return (
        attested * ((self._tasks[task].prices >> 96) & _M96)
        + opened * (self._tasks[task].payer >> 160) // n
    )


@internal
@view
def _unspent(task: uint256, opened: uint256) -> uint256:
    """
    @notice Escrow that neither rewards nor fees were earned from, with the dust of the equal shares.
    """
    terms: uint256 = self._tasks[task].terms
    prices: uint256 = self._tasks[task].prices
    opening_fee_wei: uint256 = self._tasks[task].payer >> 160
    n: uint256 = terms & _M8
    left_wei: uint256 = ((terms >> _ROUNDS) & _M16) * (
        ((terms >> _MAX_OWNERS) & _M32) * (prices & _M96)
        + n * ((prices >> 96) & _M96)
        + opening_fee_wei
    )
    left_wei -= self._tasks[task].ledger & _M120
    for index: uint256 in range(n, bound=MAX_SERVERS):
        left_wei -= self._fees_earned(task, index)
    return left_wei
