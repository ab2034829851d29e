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
    text,
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
jobs = Table(
    "jobs",
    metadata,
    Column("kind", _word(32)),
    Column("key", _word(128)),
    Column("state", _word(16), nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("lease_owner", _word(64), nullable=False),
    Column("lease_until", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_error", Text, nullable=False),
    PrimaryKeyConstraint("kind", "key"),
    Index("jobs_by_state", "state", "due_at"),
)
outbox = Table(
    "outbox",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("sender", LargeBinary(20), nullable=False),
    Column("nonce", BigInteger, nullable=False),
    Column("purpose", _word(128), nullable=False),
    Column("raw_transaction", LargeBinary, nullable=False),
    Column("state", _word(16), nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("replaced_by", LargeBinary(32)),
    Index("outbox_by_purpose", "sender", "purpose"),
)
# One transaction of a sender under each nonce, and one for each purpose, is in force at a time.
_LIVE = text("state IN ('queued', 'sent', 'mined')")
Index(
    "outbox_live_nonce",
    outbox.c.sender,
    outbox.c.nonce,
    unique=True,
    sqlite_where=_LIVE,
    postgresql_where=_LIVE,
)
Index(
    "outbox_live_purpose",
    outbox.c.sender,
    outbox.c.purpose,
    unique=True,
    sqlite_where=_LIVE,
    postgresql_where=_LIVE,
)
