"""A daemon's work, restored databases, and what garbage collection needs to know."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add tables; the schema's version is alembic's from here on."""
    op.drop_column("identity", "schema_version")
    _add_ages()
    _add_reconciliation()
    _add_daemon()
    _add_outbox()


def _add_ages() -> None:
    op.add_column(
        "request_nonces",
        sa.Column("used_at", sa.BigInteger, nullable=False, server_default="0"),
    )
    used_at = sa.table("request_nonces", sa.column("used_at", sa.BigInteger))
    op.execute(sa.update(used_at).values(used_at=int(time.time())))  # none is forgotten too early
    op.create_index("request_nonces_by_age", "request_nonces", ["used_at"])
    op.create_table(
        "published_for",
        sa.Column("task", sa.BigInteger),
        sa.Column("content", sa.LargeBinary(32)),
        sa.PrimaryKeyConstraint("task", "content"),
    )


def _add_reconciliation() -> None:
    op.create_table(
        "reconciliation",
        sa.Column("only", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("cause", _word(32), nullable=False),
    )
    op.create_table(
        "barred_rounds",
        sa.Column("task", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("through_round", sa.Integer, nullable=False),
    )


def _add_daemon() -> None:
    op.create_table(
        "cursors",
        sa.Column("name", _word(64)),
        sa.Column("block", sa.BigInteger),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("name", "block"),
    )
    op.create_table(
        "jobs",
        sa.Column("kind", _word(32)),
        sa.Column("key", _word(128)),
        sa.Column("state", _word(16), nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("lease_owner", _word(64), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "key"),
    )
    op.create_index("jobs_by_state", "jobs", ["state", "due_at"])


def _add_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("hash", sa.LargeBinary(32), primary_key=True),
        sa.Column("sender", sa.LargeBinary(20), nullable=False),
        sa.Column("nonce", sa.BigInteger, nullable=False),
        sa.Column("purpose", _word(128), nullable=False),
        sa.Column("raw_transaction", sa.LargeBinary, nullable=False),
        sa.Column("state", _word(16), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("replaced_by", sa.LargeBinary(32)),
    )
    op.create_index("outbox_by_purpose", "outbox", ["sender", "purpose"])
    for what in ("nonce", "purpose"):
        live = sa.text("state IN ('queued', 'sent', 'mined')")
        op.create_index(
            f"outbox_live_{what}",
            "outbox",
            ["sender", what],
            unique=True,
            sqlite_where=live,
            postgresql_where=live,
        )


def _word(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
