"""One outbox by nonce, a job for each task, and the chain's logs; what they replace was unused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables anew; no process of before wrote to them."""
    op.drop_table("outbox")
    op.drop_table("jobs")
    op.execute("DELETE FROM cursors")
    _add_outbox()
    op.create_table(
        "jobs",
        sa.Column("task", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("lease_owner", _word(64), nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text, nullable=False),
    )
    op.create_table(
        "chain_logs",
        sa.Column("block", sa.BigInteger),
        sa.Column("log_index", sa.Integer),
        sa.Column("block_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("transaction_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("address", sa.LargeBinary(20), nullable=False),
        sa.Column("topics", sa.LargeBinary, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("block", "log_index"),
    )


def _add_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("sender", sa.LargeBinary(20)),
        sa.Column("nonce", sa.BigInteger),
        sa.Column("replacement", sa.Integer),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("raw_transaction", sa.LargeBinary, nullable=False),
        sa.Column("target", sa.LargeBinary(20)),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("value_wei", _word(78), nullable=False),
        sa.Column("gas", sa.BigInteger, nullable=False),
        sa.Column("max_fee_wei", _word(78), nullable=False),
        sa.Column("priority_fee_wei", _word(78), nullable=False),
        sa.PrimaryKeyConstraint("sender", "nonce", "replacement"),
    )


def _word(length: int) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")
