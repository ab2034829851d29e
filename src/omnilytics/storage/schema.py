"""The tables of a server, for SQLite and PostgreSQL alike.

A change here needs a migration in `migrations/versions`; a test compares the two.

Times are unix seconds. Texts are ASCII words of this program, except `jobs.last_error`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeEngine

metadata = MetaData()


def _word(length: int) -> TypeEngine[str]:
    """A short text that sorts by its bytes on every database, whatever its locale."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


identity = Table(
    "identity",
    metadata,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("chain_id", BigInteger, nullable=False),
    Column("contract", LargeBinary(20), nullable=False),
    Column("server", LargeBinary(20), nullable=False),
)

# What a round leaves behind

records = Table(
    "records",
    metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("kind", _word(32)),
    Column("server", Integer),
    Column("subject", LargeBinary(64)),
    Column("digest", LargeBinary(32)),
    Column("body", LargeBinary, nullable=False),
    Column("received_block", BigInteger, nullable=False),
    PrimaryKeyConstraint("task", "round", "kind", "server", "subject", "digest"),
)
submissions = Table(
    "submissions",
    metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("owner", LargeBinary(20)),
    Column("commitment", LargeBinary(32)),
    Column("package", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("task", "round", "owner", "commitment"),
)
receipts = Table(
    "receipts",
    metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("owner", LargeBinary(20)),
    Column("commitment", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("task", "round", "owner"),
)
held_packages = Table(
    "held_packages",
    metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("server", Integer),
    Column("owner", LargeBinary(20)),
    Column("package", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("task", "round", "server", "owner"),
)
locks = Table(
    "locks",
    metadata,
    Column("task", BigInteger),
    Column("round", Integer),
    Column("kind", _word(32)),
    Column("value", LargeBinary(64), nullable=False),
    PrimaryKeyConstraint("task", "round", "kind"),
)
request_nonces = Table(
    "request_nonces",
    metadata,
    Column("nonce", LargeBinary(32), primary_key=True),
    Column("used_at", BigInteger, nullable=False, server_default="0"),
    Index("request_nonces_by_age", "used_at"),
)
published = Table("published", metadata, Column("content", LargeBinary(32), primary_key=True))
published_for = Table(
    "published_for",
    metadata,
    Column("task", BigInteger),
    Column("content", LargeBinary(32)),
    PrimaryKeyConstraint("task", "content"),
)

# What a restored database may not answer

reconciliation = Table(
    "reconciliation",
    metadata,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("cause", _word(32), nullable=False),
)
barred_rounds = Table(
    "barred_rounds",
    metadata,
    Column("task", BigInteger, primary_key=True, autoincrement=False),
    Column("through_round", Integer, nullable=False),
)

# What a daemon has to do

cursors = Table(
    "cursors",
    metadata,
    Column("name", _word(64)),
    Column("block", BigInteger),
    Column("hash", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("name", "block"),
)
chain_logs = Table(
    "chain_logs",
    metadata,
    Column("block", BigInteger),
    Column("log_index", Integer),
    Column("block_hash", LargeBinary(32), nullable=False),
    Column("transaction_hash", LargeBinary(32), nullable=False),
    Column("address", LargeBinary(20), nullable=False),
    Column("topics", LargeBinary, nullable=False),
    Column("data", LargeBinary, nullable=False),
    PrimaryKeyConstraint("block", "log_index"),
)
jobs = Table(
    "jobs",
    metadata,
    Column("task", BigInteger, primary_key=True, autoincrement=False),
    Column("lease_owner", _word(64), nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
)
# A row for each transaction of a call that is not finished; amounts in decimal.
outbox = Table(
    "outbox",
    metadata,
    Column("sender", LargeBinary(20)),
    Column("nonce", BigInteger),
    Column("replacement", Integer),
    Column("hash", LargeBinary(32), nullable=False),
    Column("raw_transaction", LargeBinary, nullable=False),
    Column("target", LargeBinary(20)),
    Column("data", LargeBinary, nullable=False),
    Column("value_wei", _word(78), nullable=False),
    Column("gas", BigInteger, nullable=False),
    Column("max_fee_wei", _word(78), nullable=False),
    Column("priority_fee_wei", _word(78), nullable=False),
    PrimaryKeyConstraint("sender", "nonce", "replacement"),
)
