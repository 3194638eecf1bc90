"""Version 1: credentials, modules, channels, sites, pairings, holders, keys and their ledgers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite counts rows by INTEGER PRIMARY KEY alone; its integers have 64 bits anyhow.
BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "key_ledger",
        sa.Column("key", BIGINT, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_key_ledger")),
    )
    op.create_table(
        "modules",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("dialect", sa.String(length=32), nullable=False),
        sa.Column("period_ms", BIGINT, nullable=True),
        sa.Column("firmware", sa.String(length=64), nullable=True),
        sa.Column("hardware", sa.String(length=64), nullable=True),
        sa.Column("meter_serial", sa.String(length=64), nullable=True),
        sa.Column("collection", sa.String(length=16), nullable=False),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.Column("note", sa.String(length=500), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_modules")),
        sa.UniqueConstraint("serial", name=op.f("uq_modules_serial")),
    )
    op.create_table(
        "sites",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("city", sa.String(length=100), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("street", sa.String(length=200), nullable=True),
        sa.Column("postcode", sa.String(length=20), nullable=True),
        sa.Column("delivery_point", sa.String(length=40), nullable=True),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sites")),
    )
    op.create_index(op.f("ix_sites_city"), "sites", ["city"], unique=False)
    op.create_table(
        "token_ledger",
        sa.Column("token", sa.String(length=12), nullable=False),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_token_ledger")),
    )
    op.create_table(
        "channels",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("module_id", BIGINT, nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("note", sa.String(length=500), server_default="", nullable=False),
        sa.CheckConstraint("number >= 1", name=op.f("ck_channels_from_one")),
        sa.ForeignKeyConstraint(["module_id"], ["modules.id"], name=op.f("fk_channels_module_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channels")),
        sa.UniqueConstraint("module_id", "number", name=op.f("uq_channels_module_id_number")),
    )
    op.create_table(
        "credentials",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("username", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("publish", sa.String(), server_default="", nullable=False),
        sa.Column("subscribe", sa.String(), server_default="", nullable=False),
        sa.Column("module_id", BIGINT, nullable=True),
        sa.Column("blocked_us", BIGINT, nullable=True),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.Column("last_used_us", BIGINT, nullable=True),
        sa.Column("note", sa.String(length=500), server_default="", nullable=False),
        sa.CheckConstraint("kind <> 'module' OR module_id IS NOT NULL", name=op.f("ck_credentials_module_named")),
        sa.ForeignKeyConstraint(
            ["module_id"], ["modules.id"], name=op.f("fk_credentials_module_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sa.UniqueConstraint("username", name=op.f("uq_credentials_username")),
    )
    op.create_index(op.f("ix_credentials_module_id"), "credentials", ["module_id"], unique=False)
    op.create_table(
        "holders",
        sa.Column("token", sa.String(length=12), nullable=False),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.ForeignKeyConstraint(["token"], ["token_ledger.token"], name=op.f("fk_holders_token")),
        sa.PrimaryKeyConstraint("token", name=op.f("pk_holders")),
    )
    op.create_table(
        "pairings",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("site_id", BIGINT, nullable=False),
        sa.Column("channel_id", BIGINT, nullable=False),
        sa.Column("meter_serial", sa.String(length=64), nullable=True),
        sa.Column("from_us", BIGINT, nullable=False),
        sa.Column("to_us", BIGINT, nullable=True),
        sa.CheckConstraint("to_us IS NULL OR to_us >= from_us", name=op.f("ck_pairings_in_order")),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], name=op.f("fk_pairings_channel_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_pairings_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pairings")),
    )
    op.create_index(op.f("ix_pairings_channel_id"), "pairings", ["channel_id"], unique=False)
    op.create_index(op.f("ix_pairings_site_id"), "pairings", ["site_id"], unique=False)
    op.create_index(
        "uq_pairings_current",
        "pairings",
        ["channel_id"],
        unique=True,
        sqlite_where=sa.text("to_us IS NULL"),
        postgresql_where=sa.text("to_us IS NULL"),
    )
    op.create_table(
        "keys",
        sa.Column("key", BIGINT, autoincrement=False, nullable=False),
        sa.Column("channel_id", BIGINT, nullable=False),
        sa.Column("pairing_id", BIGINT, nullable=True),
        sa.Column("holder_token", sa.String(length=12), nullable=True),
        sa.Column("from_us", BIGINT, nullable=False),
        sa.Column("to_us", BIGINT, nullable=True),
        sa.Column("collection_level", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("key > 0", name=op.f("ck_keys_positive")),
        sa.CheckConstraint("to_us IS NULL OR to_us >= from_us", name=op.f("ck_keys_in_order")),
        sa.ForeignKeyConstraint(["channel_id"], ["channels.id"], name=op.f("fk_keys_channel_id")),
        sa.ForeignKeyConstraint(["holder_token"], ["holders.token"], name=op.f("fk_keys_holder_token")),
        sa.ForeignKeyConstraint(["key"], ["key_ledger.key"], name=op.f("fk_keys_key")),
        sa.ForeignKeyConstraint(["pairing_id"], ["pairings.id"], name=op.f("fk_keys_pairing_id")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_keys")),
    )
    op.create_index(op.f("ix_keys_channel_id"), "keys", ["channel_id"], unique=False)
    op.create_index(op.f("ix_keys_holder_token"), "keys", ["holder_token"], unique=False)
    op.create_index(op.f("ix_keys_pairing_id"), "keys", ["pairing_id"], unique=False)
    op.create_index(
        "uq_keys_current",
        "keys",
        ["channel_id"],
        unique=True,
        sqlite_where=sa.text("to_us IS NULL"),
        postgresql_where=sa.text("to_us IS NULL"),
    )
