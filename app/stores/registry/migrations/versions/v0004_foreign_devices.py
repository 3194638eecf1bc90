"""Version 4: devices of others that were heard, and what became of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "foreign_devices",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("dialect", sa.String(length=32), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("module_id", BIGINT, nullable=True),
        sa.Column("name", sa.String(length=100), nullable=True),
        sa.Column("maker", sa.String(length=64), nullable=True),
        sa.Column("model", sa.String(length=64), nullable=True),
        sa.Column("firmware", sa.String(length=64), nullable=True),
        sa.Column("facts", sa.String(), nullable=True),
        sa.Column("power_kind", sa.String(length=2), nullable=True),
        sa.Column("messages", BIGINT, nullable=False),
        sa.Column("first_seen_us", BIGINT, nullable=False),
        sa.Column("last_seen_us", BIGINT, nullable=False),
        sa.Column("changed_by", sa.String(length=80), nullable=True),
        sa.Column("changed_us", BIGINT, nullable=True),
        sa.ForeignKeyConstraint(["module_id"], ["modules.id"], name=op.f("fk_foreign_devices_module_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_foreign_devices")),
        sa.UniqueConstraint("dialect", "device", name=op.f("uq_foreign_devices_dialect_device")),
        sa.UniqueConstraint("module_id", name=op.f("uq_foreign_devices_module_id")),
    )
    op.create_index(op.f("ix_foreign_devices_state"), "foreign_devices", ["state"], unique=False)
