"""Version 3: operators and sessions, API tokens, saved views, tags, commands, jobs, actions, access log, person keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIGINT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "access_log",
        sa.Column("number", BIGINT, autoincrement=False, nullable=False),
        sa.Column("quarter_us", BIGINT, nullable=False),
        sa.Column("at_us", BIGINT, nullable=False),
        sa.Column("operator", sa.String(length=80), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("attributes", sa.String(length=500), nullable=False),
        sa.Column("purpose", sa.String(length=40), nullable=False),
        sa.Column("ticket", sa.String(length=100), nullable=False),
        sa.Column("count", BIGINT, nullable=False),
        sa.Column("previous", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_access_log")),
    )
    op.create_index(op.f("ix_access_log_operator"), "access_log", ["operator"], unique=False)
    op.create_index(op.f("ix_access_log_quarter_us"), "access_log", ["quarter_us"], unique=False)
    op.create_index(op.f("ix_access_log_subject"), "access_log", ["subject"], unique=False)
    op.create_table(
        "actions",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("at_us", BIGINT, nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("what", sa.String(length=60), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("before", sa.String(), nullable=True),
        sa.Column("after", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_actions")),
    )
    op.create_index(op.f("ix_actions_actor"), "actions", ["actor"], unique=False)
    op.create_index(op.f("ix_actions_at_us"), "actions", ["at_us"], unique=False)
    op.create_index(op.f("ix_actions_subject"), "actions", ["subject"], unique=False)
    op.create_table(
        "api_tokens",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scopes", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.Column("expires_us", BIGINT, nullable=True),
        sa.Column("used_us", BIGINT, nullable=True),
        sa.Column("revoked_us", BIGINT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_tokens")),
        sa.UniqueConstraint("name", name=op.f("uq_api_tokens_name")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_api_tokens_token_sha256")),
    )
    op.create_table(
        "erasures",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("at_us", BIGINT, nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
        sa.UniqueConstraint("subject", name=op.f("uq_erasures_subject")),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("owner", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("parameters", sa.String(), nullable=False),
        sa.Column("cursor", sa.String(), nullable=True),
        sa.Column("done", BIGINT, server_default="0", nullable=False),
        sa.Column("total", BIGINT, nullable=True),
        sa.Column("message", sa.String(length=500), server_default="", nullable=False),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.Column("started_us", BIGINT, nullable=True),
        sa.Column("finished_us", BIGINT, nullable=True),
        sa.Column("result_file", sa.String(length=200), nullable=True),
        sa.Column("result_expires_us", BIGINT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_created_us"), "jobs", ["created_us"], unique=False)
    op.create_index(op.f("ix_jobs_owner"), "jobs", ["owner"], unique=False)
    op.create_index(op.f("ix_jobs_state"), "jobs", ["state"], unique=False)
    op.create_table(
        "operators",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("full_name", sa.String(length=120), server_default="", nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("must_change_password", sa.Boolean(), nullable=False),
        sa.Column("password_us", BIGINT, nullable=False),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.Column("disabled_us", BIGINT, nullable=True),
        sa.Column("failed_logins", BIGINT, server_default="0", nullable=False),
        sa.Column("locked_until_us", BIGINT, nullable=True),
        sa.Column("version", BIGINT, server_default="1", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operators")),
        sa.UniqueConstraint("name", name=op.f("uq_operators_name")),
    )
    op.create_table(
        "person_keys",
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("secret", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_person_keys")),
    )
    op.create_table(
        "commands",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("module_id", BIGINT, nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("arguments", sa.String(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sent_by", sa.String(length=80), nullable=False),
        sa.Column("bulk_id", sa.String(length=26), nullable=True),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.Column("expires_us", BIGINT, nullable=False),
        sa.Column("sent_us", BIGINT, nullable=True),
        sa.Column("done_us", BIGINT, nullable=True),
        sa.Column("result", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["module_id"], ["modules.id"], name=op.f("fk_commands_module_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commands")),
    )
    op.create_index(op.f("ix_commands_bulk_id"), "commands", ["bulk_id"], unique=False)
    op.create_index(op.f("ix_commands_created_us"), "commands", ["created_us"], unique=False)
    op.create_index(op.f("ix_commands_module_id"), "commands", ["module_id"], unique=False)
    op.create_index(op.f("ix_commands_state"), "commands", ["state"], unique=False)
    op.create_table(
        "module_tags",
        sa.Column("module_id", BIGINT, nullable=False),
        sa.Column("tag", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["module_id"], ["modules.id"], name=op.f("fk_module_tags_module_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("module_id", "tag", name=op.f("pk_module_tags")),
    )
    op.create_index(op.f("ix_module_tags_tag"), "module_tags", ["tag"], unique=False)
    op.create_table(
        "saved_views",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("operator_id", BIGINT, nullable=True),
        sa.Column("page", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("definition", sa.String(), nullable=False),
        sa.Column("shared", sa.Boolean(), nullable=False),
        sa.Column("version", BIGINT, server_default="1", nullable=False),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operators.id"], name=op.f("fk_saved_views_operator_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_views")),
        sa.UniqueConstraint("operator_id", "page", "name", name=op.f("uq_saved_views_operator_id_page_name")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", BIGINT, nullable=False),
        sa.Column("operator_id", BIGINT, nullable=False),
        sa.Column("token_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_us", BIGINT, nullable=False),
        sa.Column("expires_us", BIGINT, nullable=False),
        sa.Column("used_us", BIGINT, nullable=False),
        sa.Column("agent", sa.String(length=200), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["operators.id"], name=op.f("fk_sessions_operator_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("token_sha256", name=op.f("uq_sessions_token_sha256")),
    )
    op.create_index(op.f("ix_sessions_operator_id"), "sessions", ["operator_id"], unique=False)
    op.add_column("modules", sa.Column("version", BIGINT, server_default="1", nullable=False))
    op.add_column("sites", sa.Column("version", BIGINT, server_default="1", nullable=False))
