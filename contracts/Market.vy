# pragma version 0.4.3
"""
@title OmniLytics market
@license Apache-2.0
@notice Escrow, commitments, the public record of each round, and payment (protocol.md section 6).
    A model owner locks the money of all rounds of a task, in ether or in a token; a round is opened,
    sealed by the servers' votes and settled by their settlements; data owners and servers are paid
    from what was settled, whatever the model owner does afterwards. The contract has no owner, no
    upgrade path and no pause; a task's terms never change, but that more rounds may be paid for.
    Servers, bonds and faults are the registry's (Registry.vy).

    What it does not check: that a sealed manifest is complete, that verdicts follow from words, and
    that payout roots follow from accepted sets. Those rest on the signatures of n - e servers. The
    check that the posted words are codewords is a public record and a guard against faulty
    software, not what security rests on.
@dev A round rewrites storage slots that are never zero after `create_task`, so that every round of
    every task costs the same. Values are packed by hand; the layouts are beside the constants.
"""

from ethereum.ercs import IERC20

import codeword
import eip712
import payouts
import quorum

initializes: eip712
initializes: quorum[eip712 := eip712]

# Types ---------------------------------------------------------------------------------------------

MAX_SERVERS: constant(uint256) = 13

struct Terms:
    spec_hash: bytes32
    token: address
    t: uint256
    e: uint256
    min_stake_wei: uint256
    min_bond_wei: uint256
    allow_root: bytes32
    reward_wei: uint256
    fee_wei: uint256
    opening_fee_wei: uint256
    rounds: uint256
    max_rounds: uint256
    min_owners: uint256
    max_owners: uint256
    submission_seconds: uint256
    forced_seconds: uint256
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

struct Risk:
    committee_hash: bytes32
    n: uint256
    e: uint256
    min_stake_wei: uint256
    min_bond_wei: uint256

struct Claim:
    task: uint256
    cumulative_wei: uint256
    proof: DynArray[bytes32, payouts.MAX_DEPTH]

interface Registry:
    def market() -> address: view
    def min_stake_wei() -> uint256: view
    def draw_fee_wei() -> uint256: view
    def enlist(
        servers: DynArray[address, MAX_SERVERS],
        min_stake_wei: uint256,
        consent_hash: bytes32,
        consents: DynArray[eip712.Signature, MAX_SERVERS],
    ) -> uint256: nonpayable
    def pin_draw(task: uint256): payable
    def draw(
        task: uint256, n: uint256, min_stake_wei: uint256, token: address, fee_wei: uint256
    ) -> (DynArray[address, MAX_SERVERS], uint256): nonpayable
    def release(task: uint256, servers: DynArray[address, MAX_SERVERS]): nonpayable

# Events --------------------------------------------------------------------------------------------

event TaskCreated:
    task: indexed(uint256)
    model_owner: indexed(address)
    escrow_wei: uint256
    n: uint256
    terms: Terms

event CommitteeFixed:
    task: indexed(uint256)
    committee: DynArray[address, MAX_SERVERS]
    profiles: uint256

event RoundsAdded:
    task: indexed(uint256)
    rounds: uint256
    amount_wei: uint256

event RoundOpened:
    task: indexed(uint256)
    round: indexed(uint256)
    artefact_hash: bytes32
    block_hash: bytes32
    submission_deadline: uint256

event SubmissionForced:
    task: indexed(uint256)
    round: indexed(uint256)
    sender: indexed(address)
    certificate: Bytes[MAX_CERTIFICATE_BYTES]

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
INTERFACE_VERSION: constant(uint256) = 2

_SEAL_VOTE: constant(bytes32) = keccak256(
    "SealVote(uint256 task,uint256 round,bytes32 submissions_root,uint256 count)"
)
_SETTLEMENT: constant(bytes32) = keccak256(
    "Settlement(uint256 task,uint256 round,bytes32 submissions_root,bytes32 seed,bytes32 accepted_root,uint256 accepted_count,uint256 v_bitmap,bytes32 previous_payouts_root,bytes32 payouts_root,bytes32 transcript_hash,bytes32 word)"
)

_CONSENT: constant(bytes32) = keccak256(
    "Consent(address model_owner,bytes32 terms_hash,uint256 expires)"
)

# Where EIP-2935 keeps the hashes of the last 8,191 blocks.
_HISTORY: constant(address) = 0x0000F90827F1C53a10cb7A02335B175320002935
_MAX_HISTORY_BLOCKS: constant(uint256) = 8_000

# Root of a tree without leaves, tagged apart from leaves and nodes; it also keeps root slots warm.
EMPTY_ROOT: constant(bytes32) = keccak256(x"02")

MAX_WINDOW_SECONDS: constant(uint256) = 30 * 86400
# A bond may leave after 14 days: a round that relies on bonds is over before.
MAX_BONDED_SECONDS: constant(uint256) = 10 * 86400
IDLE_SECONDS: constant(uint256) = 14 * 86400
# No round opens later than that after a task's creation: stakes are not bound for ever.
MAX_TASK_DAYS: constant(uint256) = 366
MAX_CERTIFICATE_BYTES: constant(uint256) = 8192
MAX_CLAIMS: constant(uint256) = 16

# Phases: of the latest round, and before the committee is known.
IDLE: constant(uint256) = 0
OPEN: constant(uint256) = 1
SEALED: constant(uint256) = 2
DRAWING: constant(uint256) = 3

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

# Task.terms: n 8 | t 8 | e 8 | rounds 16 | max_rounds 16 | delta 8 | confirmations 8 | words 16
# | openings 16 | settlement 16 | min_owners 32 | max_owners 32 | submission seconds 24 | forced seconds
# 24 | seal seconds 24.
_T: constant(uint256) = 8
_E: constant(uint256) = 16
_ROUNDS: constant(uint256) = 24
_MAX_ROUNDS: constant(uint256) = 40
_DELTA: constant(uint256) = 56
_CONFIRMATIONS: constant(uint256) = 64
_WORDS_BLOCKS: constant(uint256) = 72
_OPENINGS_BLOCKS: constant(uint256) = 88
_SETTLEMENT_BLOCKS: constant(uint256) = 104
_MIN_OWNERS: constant(uint256) = 120
_MAX_OWNERS: constant(uint256) = 152
_SUBMISSION_SECONDS: constant(uint256) = 184
_FORCED_SECONDS: constant(uint256) = 208
_SEAL_SECONDS: constant(uint256) = 232

# Task.prices: the day of creation since 1970; 16 bits last until 2149.
_CREATED_DAY: constant(uint256) = 240

# Task.ledger: credited 120 | claimed 120 | pays in a token 1 | a set top bit. Claimed is at most credited,
# and that at most the escrow, which `_check_terms` keeps in 120 bits.
_CLAIMED: constant(uint256) = 120
_IN_TOKEN: constant(uint256) = 1 << 240
# Task.attested: 16 bits per committee index | a set top bit. At most 65,535 rounds: no carry.
_WARM: constant(uint256) = 1 << 255

_M8: constant(uint256) = 2**8 - 1
_M16: constant(uint256) = 2**16 - 1
_M24: constant(uint256) = 2**24 - 1
_M32: constant(uint256) = 2**32 - 1
_M48: constant(uint256) = 2**48 - 1
_M96: constant(uint256) = 2**96 - 1
_M120: constant(uint256) = 2**120 - 1
_M160: constant(uint256) = 2**160 - 1

# Storage -------------------------------------------------------------------------------------------

struct Task:
    payer: uint256  # model owner 160 | opening fee 96
    prices: uint256  # reward 96 | fee 96 | created block 48 | created day 16
    terms: uint256
    progress: uint256
    spec_hash: bytes32
    committee_hash: bytes32
    submissions_root: bytes32
    payouts_root: bytes32
    previous_payouts_root: bytes32
    ledger: uint256
    attested: uint256
    token: address
    risk: uint256  # smallest stake 96 | smallest bond 96
    allow_root: bytes32
    profiles: uint256  # number of each server's profile at the time, 16 bits per committee index

# Where servers, bonds and faults are kept.
REGISTRY: immutable(address)

# Number of tasks created so far; ids start at 1.
task_count: public(uint256)
# The task that a model owner created on a specification: a specification serves once.
task_of: public(HashMap[address, HashMap[bytes32, uint256]])
# Reward already paid, by task and data owner, in wei.
claimed: public(HashMap[uint256, HashMap[address, uint256]])
# Fees already paid, by task and committee index, in wei.
fees_paid: public(HashMap[uint256, HashMap[uint256, uint256]])

_tasks: HashMap[uint256, Task]


@deploy
def __init__(registry: address):
    """
    @notice Deploy a market.
    @param registry Its registry, deployed for this address.
    """
    assert staticcall Registry(registry).market() == self, "registry of another market"
    REGISTRY = registry
    eip712.__init__(self)


# Tasks ---------------------------------------------------------------------------------------------


@external
@payable
@nonreentrant
def create_task(
    terms: Terms,
    committee: DynArray[address, MAX_SERVERS],
    expires: uint256,
    consents: DynArray[eip712.Signature, MAX_SERVERS],
) -> uint256:
    """
    @notice Create a task with servers that agreed to it, and lock the money of its rounds.
    @dev The escrow must be exactly rounds * (max_owners * reward + n * fee + opening fee): ether sent
        along, or a token that the market may take. A consent cannot be used twice, since a model owner
        can use a specification once.
    @param terms Immutable terms of the task.
    @param committee The n servers, in the order of their polynomial points; named by the caller.
    @param expires Until when the consents hold, in seconds.
    @param consents Each server's signature of Consent(model owner, terms hash, expires), where the
        terms hash is keccak256(abi.encode(terms, committee)).
    @return Number of the task, from 1.
    """
    assert block.timestamp <= expires, "consents expired"
    task: uint256 = self._create(terms, len(committee), 0)
    profiles: uint256 = extcall Registry(REGISTRY).enlist(
        committee,
        terms.min_stake_wei,
        keccak256(
            abi_encode(_CONSENT, msg.sender, keccak256(abi_encode(terms, committee)), expires)
        ),
        consents,
    )
    self._fix_committee(task, committee, profiles)
    return task


@external
@payable
@nonreentrant
def create_drawn_task(terms: Terms, n: uint256) -> uint256:
    """
    @notice Create a task whose servers are drawn from those that offer to serve for its fee.
    @dev As `create_task`, with the draw's fee in ether on top, which is burnt.
    @param terms Immutable terms of the task.
    @param n Number of servers.
    @return Number of the task, from 1.
    """
    draw_fee_wei: uint256 = staticcall Registry(REGISTRY).draw_fee_wei()
    task: uint256 = self._create(terms, n, draw_fee_wei)
    extcall Registry(REGISTRY).pin_draw(task, value=draw_fee_wei)
    return task


@external
@payable
def redraw(task: uint256):
    """
    @notice Ask for another draw after one was missed; the model owner pays the fee again.
    @param task Number of the task.
    """
    assert self._progress_for_owner(task) & _PHASE == DRAWING, "not drawing"
    self._tasks[task].progress = (block.timestamp << _DEADLINE) | DRAWING
    extcall Registry(REGISTRY).pin_draw(task, value=msg.value)


@external
def draw_committee(task: uint256):
    """
    @notice Draw the servers of a task by the hash of the block fixed when it was asked for.
    @dev Anyone may call it, from the block after that one, for as long as its hash is known.
    @param task Number of the task.
    """
    progress: uint256 = self._tasks[task].progress
    assert progress & (_PHASE | _CLOSED) == DRAWING, "not drawing"
    committee: DynArray[address, MAX_SERVERS] = []
    profiles: uint256 = 0
    committee, profiles = extcall Registry(REGISTRY).draw(
        task,
        self._tasks[task].terms & _M8,
        self._tasks[task].risk & _M96,
        self._tasks[task].token,
        (self._tasks[task].prices >> 96) & _M96,
    )
    self._fix_committee(task, committee, profiles)


@external
@payable
@nonreentrant
def top_up(task: uint256, rounds: uint256):
    """
    @notice Pay for more rounds of one's task, up to the number the servers agreed to.
    @param task Number of the task.
    @param rounds How many more.
    """
    self._progress_for_owner(task)
    terms: uint256 = self._tasks[task].terms
    assert (
        rounds >= 1 and rounds <= ((terms >> _MAX_ROUNDS) & _M16) - ((terms >> _ROUNDS) & _M16)
    ), "bad rounds"
    amount_wei: uint256 = rounds * self._round_wei(task)
    self._tasks[task].terms = terms + (rounds << _ROUNDS)
    log RoundsAdded(task=task, rounds=rounds, amount_wei=amount_wei)
    self._take(self._tasks[task].token, amount_wei, 0)


@external
@nonreentrant
def close_task(task: uint256, committee: DynArray[address, MAX_SERVERS]):
    """
    @notice Close a task that has no active round and return what it did not spend.
    @dev The model owner may close at any time between rounds; anyone may once all rounds were
        opened, or 14 days after the last one's windows, so that servers get their stakes back. Claims
        of rewards and fees stay possible. Who closes another's task does not pay it out: a further
        call does, anyone's, so that no receiver and no token keeps stakes bound.
    @param task Number of the task.
    @param committee The task's servers, in order; none if they were not drawn yet.
    """
    progress: uint256 = self._tasks[task].progress
    assert progress != 0, "no such task"
    phase: uint256 = progress & _PHASE
    assert phase == IDLE or phase == DRAWING, "not idle"
    assert progress & _REFUNDED == 0, "already refunded"
    model_owner: address = convert(self._tasks[task].payer & _M160, address)
    terms: uint256 = self._tasks[task].terms
    opened: uint256 = (progress >> _OPENED) & _M16
    unspent_wei: uint256 = self._unspent(task)

    if progress & _CLOSED == 0:
        if msg.sender != model_owner and opened < (terms >> _ROUNDS) & _M16:
            idle_since: uint256 = ((progress >> _DEADLINE) & _M48) + (terms >> _SEAL_SECONDS)
            assert block.timestamp > idle_since + IDLE_SECONDS, "not model owner"
        if phase == IDLE:
            self._check_committee(task, committee)
            extcall Registry(REGISTRY).release(task, committee)
        log TaskClosed(task=task, unspent_wei=unspent_wei)
        if msg.sender != model_owner:
            self._tasks[task].progress = progress | _CLOSED
            return

    self._tasks[task].progress = progress | _CLOSED | _REFUNDED
    log TaskRefunded(task=task, model_owner=model_owner, amount_wei=unspent_wei)
    self._pay(self._tasks[task].token, model_owner, unspent_wei)


# Rounds --------------------------------------------------------------------------------------------


@external
def open_round(task: uint256, artefact_hash: bytes32) -> uint256:
    """
    @notice Open the next round on a published artefact; the opening fee becomes the committee's.
    @param task Number of the task; the caller must be its model owner.
    @param artefact_hash Hash of the perturbed model that data owners work on.
    @return Number of the round, from 1.
    """
    progress: uint256 = self._progress_for_owner(task)
    assert progress & _PHASE == IDLE, "not idle"
    last_day: uint256 = (self._tasks[task].prices >> _CREATED_DAY) + MAX_TASK_DAYS
    assert block.timestamp // 86400 <= last_day, "task expired"
    terms: uint256 = self._tasks[task].terms
    round: uint256 = ((progress >> _OPENED) & _M16) + 1
    assert round <= (terms >> _ROUNDS) & _M16, "no rounds left"

    deadline: uint256 = block.timestamp + ((terms >> _SUBMISSION_SECONDS) & _M24)
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
def force_submission(task: uint256, certificate: Bytes[MAX_CERTIFICATE_BYTES]):
    """
    @notice Show every server the certificate of a submission that the sequencer might leave out.
    @dev The servers check it and sign no manifest without it. It must come early enough for all of
        them to see it.
    @param task Number of the task.
    @param certificate The certificate, as the servers read it.
    """
    progress: uint256 = self._tasks[task].progress
    assert progress & _PHASE == OPEN, "round not open"
    closes: uint256 = ((progress >> _DEADLINE) & _M48) - (
        (self._tasks[task].terms >> _FORCED_SECONDS) & _M24
    )
    assert block.timestamp < closes, "too late to force"
    log SubmissionForced(
        task=task,
        round=(progress >> _OPENED) & _M16,
        sender=msg.sender,
        certificate=certificate,
    )


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
    assert block.timestamp < deadline + ((terms >> _SEAL_SECONDS)), "seal deadline passed"
    assert count >= (terms >> _MIN_OWNERS) & _M32 and count <= _M32, "bad count"
    self._check_committee(task, committee)
    round: uint256 = (progress >> _OPENED) & _M16
    quorum.check(
        keccak256(abi_encode(_SEAL_VOTE, task, round, submissions_root, count)),
        committee,
        (terms >> _E) & _M8,
        signers,
        signatures,
    )

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
    quorum.check_signers(terms & _M8, (terms >> _E) & _M8, signers, len(signatures))
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
    assert phase == OPEN or phase == SEALED, "no active round"
    terms: uint256 = self._tasks[task].terms
    if phase == OPEN:
        deadline: uint256 = (progress >> _DEADLINE) & _M48
        assert block.timestamp >= deadline + ((terms >> _SEAL_SECONDS)), "still sealable"
    else:
        sealed_block: uint256 = (progress >> _SEALED_BLOCK) & _M48
        assert block.number > sealed_block + ((terms >> _SETTLEMENT_BLOCKS) & _M16), "still settleable"
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
    self._claim(task, owner, cumulative_wei, payouts.root_of(owner, cumulative_wei, proof))


@external
@nonreentrant
def claim_many(owner: address, claims: DynArray[Claim, MAX_CLAIMS]):
    """
    @notice Pay a data owner its rewards of several tasks, as `claim` would, all or none.
    @param owner The data owner.
    @param claims Task, leaf and path of each.
    """
    for each: Claim in claims:
        root: bytes32 = payouts.root_of(owner, each.cumulative_wei, each.proof)
        self._claim(each.task, owner, each.cumulative_wei, root)


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
    self._pay(self._tasks[task].token, committee[index], amount_wei)


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
def registry() -> address:
    """
    @notice The registry of this market.
    @return Its address.
    """
    return REGISTRY


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
def risk(task: uint256) -> Risk:
    """
    @notice What the parties of a task risk, for the registry.
    @param task Number of the task.
    @return Committee, quorum, and the stake and the bond asked for.
    """
    terms: uint256 = self._tasks[task].terms
    return Risk(
        committee_hash=self._tasks[task].committee_hash,
        n=terms & _M8,
        e=(terms >> _E) & _M8,
        min_stake_wei=self._tasks[task].risk & _M96,
        min_bond_wei=self._tasks[task].risk >> 96,
    )


@external
@view
def task(number: uint256) -> Task:
    """
    @notice A task as it is stored; the layouts of the packed words are beside the constants.
    @param number Number of the task.
    @return The task.
    """
    entry: Task = self._tasks[number]
    assert entry.progress != 0, "no such task"
    return entry


# Internal ------------------------------------------------------------------------------------------


@internal
@view
def _check_terms(terms: Terms, n: uint256):
    """
    @notice Refuse terms that break a rule of the protocol or a bound of the packing.
    """
    t: uint256 = terms.t
    e: uint256 = terms.e
    assert t >= 1 and e <= t and n <= MAX_SERVERS, "bad threshold"
    # t <= n, so nothing overflows.
    assert t <= n and n >= 2 * t + 1 + 2 * e and (e == 0 or n >= 3 * t + e), "too few servers"
    assert (
        terms.min_stake_wei >= staticcall Registry(REGISTRY).min_stake_wei()
        and terms.min_stake_wei <= _M96
        and terms.min_bond_wei <= _M96
    ), "bad stake"
    assert (
        terms.rounds >= 1 and terms.rounds <= terms.max_rounds and terms.max_rounds <= _M16
    ), "bad rounds"
    assert (
        terms.min_owners >= 1
        and terms.min_owners <= terms.max_owners
        and terms.max_owners <= _M32
    ), "bad owners"
    # In this order: the product has factors below 2^16, 2^32 and 2^96, and what is ever credited
    # stays in its 120 bits.
    assert (
        terms.reward_wei <= _M96
        and terms.fee_wei <= _M96
        and terms.opening_fee_wei <= _M96
        and terms.max_rounds * terms.max_owners * terms.reward_wei <= _M120
    ), "bad price"
    assert (
        terms.submission_seconds >= 1
        and terms.submission_seconds <= MAX_WINDOW_SECONDS
        and terms.forced_seconds <= terms.submission_seconds
        and terms.seal_seconds >= 1
        and terms.seal_seconds <= MAX_WINDOW_SECONDS
        and (
            terms.min_bond_wei == 0
            or terms.submission_seconds + terms.seal_seconds <= MAX_BONDED_SECONDS
        )
    ), "bad seconds"
    assert (
        terms.delta >= 1
        and terms.delta < 256
        and terms.confirmations < 256
        and terms.delta + terms.confirmations < terms.words_blocks
        and terms.words_blocks <= terms.openings_blocks
        and terms.openings_blocks < terms.settlement_blocks
        and terms.settlement_blocks < _MAX_HISTORY_BLOCKS
    ), "bad blocks"
    # The challenge block's hash must still be known when the last settlement may be mined.
    if terms.delta + terms.settlement_blocks + terms.confirmations >= 256:
        assert self._old_block_hash(block.number - 1) == blockhash(block.number - 1), "bad blocks"


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
        | (terms.max_rounds << _MAX_ROUNDS)
        | (terms.delta << _DELTA)
        | (terms.confirmations << _CONFIRMATIONS)
        | (terms.words_blocks << _WORDS_BLOCKS)
        | (terms.openings_blocks << _OPENINGS_BLOCKS)
        | (terms.settlement_blocks << _SETTLEMENT_BLOCKS)
        | (terms.min_owners << _MIN_OWNERS)
        | (terms.max_owners << _MAX_OWNERS)
        | (terms.submission_seconds << _SUBMISSION_SECONDS)
        | (terms.forced_seconds << _FORCED_SECONDS)
        | (terms.seal_seconds << _SEAL_SECONDS)
    )


@internal
@payable
def _create(terms: Terms, n: uint256, draw_fee_wei: uint256) -> uint256:
    """
    @notice Check and store a task without its committee, and take its escrow.
    """
    self._check_terms(terms, n)
    task: uint256 = self.task_count + 1
    self.task_count = task
    assert self.task_of[msg.sender][terms.spec_hash] == 0, "specification used"
    self.task_of[msg.sender][terms.spec_hash] = task
    self._tasks[task] = Task(
        payer=convert(msg.sender, uint256) | (terms.opening_fee_wei << 160),
        prices=(
            terms.reward_wei
            | (terms.fee_wei << 96)
            | (block.number << 192)
            | (block.timestamp // 86400 << _CREATED_DAY)
        ),
        terms=self._packed(terms, n),
        progress=(block.timestamp << _DEADLINE) | DRAWING,
        spec_hash=terms.spec_hash,
        committee_hash=empty(bytes32),
        submissions_root=EMPTY_ROOT,
        payouts_root=EMPTY_ROOT,
        previous_payouts_root=EMPTY_ROOT,
        ledger=_WARM | (_IN_TOKEN if terms.token != empty(address) else 0),
        attested=_WARM,
        token=terms.token,
        risk=terms.min_stake_wei | (terms.min_bond_wei << 96),
        allow_root=terms.allow_root,
        profiles=0,
    )
    escrow_wei: uint256 = terms.rounds * self._round_wei(task)
    log TaskCreated(
        task=task, model_owner=msg.sender, escrow_wei=escrow_wei, n=n, terms=terms
    )
    self._take(terms.token, escrow_wei, draw_fee_wei)
    return task


@internal
def _fix_committee(
    task: uint256, committee: DynArray[address, MAX_SERVERS], profiles: uint256
):
    """
    @notice Record a task's committee, for ever; rounds may open.
    """
    self._tasks[task].progress = block.timestamp << _DEADLINE
    self._tasks[task].committee_hash = keccak256(abi_encode(committee))
    self._tasks[task].profiles = profiles
    log CommitteeFixed(task=task, committee=committee, profiles=profiles)


@internal
@payable
def _take(token: address, amount_wei: uint256, extra_wei: uint256):
    """
    @notice Take exactly an amount of ether or of a token from the caller, and extra ether.
    @dev A token that delivers less (or more) than was asked for is refused. One whose balances move by
        themselves (rebasing, or taking a fee from the sender) is not noticed here, and makes all tasks
        in that token share the loss: parties must not accept it.
    """
    if token == empty(address):
        assert msg.value == amount_wei + extra_wei, "wrong escrow"
        return
    assert msg.value == extra_wei, "wrong escrow"
    before: uint256 = staticcall IERC20(token).balanceOf(self)
    assert extcall IERC20(token).transferFrom(
        msg.sender, self, amount_wei, default_return_value=True
    ), "token refused"
    assert staticcall IERC20(token).balanceOf(self) == before + amount_wei, "wrong escrow"


@internal
def _pay(token: address, receiver: address, amount_wei: uint256):
    """
    @notice Send ether or a token, or revert: nothing is ever paid and not booked.
    """
    if token == empty(address):
        raw_call(receiver, b"", value=amount_wei)
    else:
        # Some tokens return nothing.
        assert extcall IERC20(token).transfer(
            receiver, amount_wei, default_return_value=True
        ), "token refused"


@internal
def _claim(task: uint256, owner: address, cumulative_wei: uint256, root: bytes32):
    """
    @notice Pay a data owner up to its leaf, which leads to this root.
    """
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
    log RewardClaimed(task=task, owner=owner, amount_wei=amount_wei)
    token: address = empty(address)
    if ledger & _IN_TOKEN != 0:
        token = self._tasks[task].token
    self._pay(token, owner, amount_wei)


@internal
@view
def _old_block_hash(number: uint256) -> bytes32:
    """
    @notice The hash of one of the last 8,191 blocks, from the chain's history contract (EIP-2935).
    """
    found: bool = False
    answer: Bytes[32] = b""
    found, answer = raw_call(
        _HISTORY,
        abi_encode(number),
        max_outsize=32,
        is_static_call=True,
        revert_on_failure=False,
    )
    assert found and len(answer) == 32 and convert(answer, uint256) != 0, "block hash missed"
    return convert(answer, bytes32)


@internal
@view
def _block_hash(number: uint256) -> bytes32:
    """
    @notice The hash of an earlier block, by BLOCKHASH as far as that reaches.
    """
    if block.number <= number + 256:
        return blockhash(number)
    return self._old_block_hash(number)


@internal
@view
def _progress_for_owner(task: uint256) -> uint256:
    """
    @notice Progress of a task that is not closed, for its model owner alone.
    """
    progress: uint256 = self._tasks[task].progress
    assert msg.sender == convert(self._tasks[task].payer & _M160, address), "not model owner"
    assert progress & _CLOSED == 0, "task closed"
    return progress


@internal
@view
def _check_committee(task: uint256, committee: DynArray[address, MAX_SERVERS]):
    """
    @notice Refuse a list of servers that is not the task's.
    """
    assert keccak256(abi_encode(committee)) == self._tasks[task].committee_hash, "wrong committee"


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
        block.number <= sealed_block + ((terms >> _SETTLEMENT_BLOCKS) & _M16)
    ), "settlement deadline passed"
    root: bytes32 = self._tasks[task].submissions_root
    assert settlement.submissions_root == root, "wrong submissions root"
    assert settlement.seed == keccak256(
        abi_encode(self._block_hash(challenge_block), task, round, root)
    ), "wrong seed"
    assert (
        settlement.previous_payouts_root == self._tasks[task].payouts_root
    ), "wrong previous root"
    count: uint256 = settlement.accepted_count
    assert count >= (terms >> _MIN_OWNERS) & _M32, "too few owners"
    assert (
        count <= (terms >> _MAX_OWNERS) & _M32 and count <= progress >> _COUNT
    ), "too many owners"


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
def _round_wei(task: uint256) -> uint256:
    """
    @notice Escrow of one round: max_owners * reward + n * fee + opening fee.
    @dev Bounds: 2^32 * 2^96 + 2^4 * 2^96 + 2^96 < 2^129.
    """
    terms: uint256 = self._tasks[task].terms
    prices: uint256 = self._tasks[task].prices
    return (
        ((terms >> _MAX_OWNERS) & _M32) * (prices & _M96)
        + (terms & _M8) * ((prices >> 96) & _M96)
        + (self._tasks[task].payer >> 160)
    )


@internal
@view
def _unspent(task: uint256) -> uint256:
    """
    @notice Escrow that neither rewards nor fees were earned from, with the dust of the equal shares.
    """
    terms: uint256 = self._tasks[task].terms
    left_wei: uint256 = ((terms >> _ROUNDS) & _M16) * self._round_wei(task)
    left_wei -= self._tasks[task].ledger & _M120
    for index: uint256 in range(terms & _M8, bound=MAX_SERVERS):
        left_wei -= self._fees_earned(task, index)
    return left_wei
