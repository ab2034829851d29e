"""The first schema: what a round leaves behind."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_TASK_ROUND = ("task", "round")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "identity",
        sa.Column("only", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("schema_version", sa.Integer, nullable=False),
        sa.Column("chain_id", sa.BigInteger, nullable=False),
        sa.Column("contract", sa.LargeBinary(20), nullable=False),
        sa.Column("server", sa.LargeBinary(20), nullable=False),
    )
    op.create_table(
        "records",
        sa.Column("task", sa.BigInteger),
        sa.Column("round", sa.Integer),
        sa.Column("kind", _word(32)),
        sa.Column("server", sa.Integer),
        sa.Column("subject", sa.LargeBinary(64)),
        sa.Column("digest", sa.LargeBinary(32)),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("received_block", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(*_TASK_ROUND, "kind", "server", "subject", "digest"),
    )
    op.create_table(
        "submissions",
        sa.Column("task", sa.BigInteger),
        sa.Column("round", sa.Integer),
        sa.Column("owner", sa.LargeBinary(20)),
        sa.Column("commitment", sa.LargeBinary(32)),
        sa.Column("package", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint(*_TASK_ROUND, "owner", "commitment"),
    )
    op.create_table(
        "receipts",
        sa.Column("task", sa.BigInteger),
        sa.Column("round", sa.Integer),
        sa.Column("owner", sa.LargeBinary(20)),
        sa.Column("commitment", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint(*_TASK_ROUND, "owner"),
    )
    op.create_table(
        "held_packages",
        sa.Column("task", sa.BigInteger),
        sa.Column("round", sa.Integer),
        sa.Column("server", sa.Integer),
        sa.Column("owner", sa.LargeBinary(20)),
        sa.Column("package", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint(*_TASK_ROUND, "server", "owner"),
    )
    op.create_table(
        "locks",
        sa.Column("task", sa.BigInteger),
        sa.Column("round", sa.Integer),
        sa.Column("kind", _word(32)),
        sa.Column("value", sa.LargeBinary(64), nullable=False),
        sa.PrimaryKeyConstraint(*_TASK_ROUND, "kind"),
    )
    op.create_table("request_nonces", sa.Column("nonce", sa.LargeBinary(32), primary_key=True))
    op.create_table("published", sa.Column("content", sa.LargeBinary(32), primary_key=True))


def _word(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
