"""The tables of the registry. A change here needs a migration; a test compares both.

Times are UTC microseconds since 1970 in columns named `..._us`, as everywhere in the stores: SQLite has no time type,
and routing compares them with the times of readings. Columns that say who somebody is are marked with `PERSONAL`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

# For the data map: everything in such a column must be found and erased with its person.
PERSONAL: dict[str, Any] = {"personal": True}

# Alembic can only change or drop constraints that have a name.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Root of the tables."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map = {int: BigInteger().with_variant(Integer(), "sqlite")}  # noqa: RUF012 - SQLAlchemy's way


class Module(Base):
    """A module, a meter on a serial port, or a foreign device: what readings come from."""

    __tablename__ = "modules"

    id: Mapped[int] = mapped_column(primary_key=True)
    serial: Mapped[str] = mapped_column(String(64), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    dialect: Mapped[str] = mapped_column(String(32))
    # Interval between readings; null: not declared and not learned yet.
    period_ms: Mapped[int | None]
    firmware: Mapped[str | None] = mapped_column(String(64))
    hardware: Mapped[str | None] = mapped_column(String(64))
    # The meter it reads, by what the meter says of itself.
    meter_serial: Mapped[str | None] = mapped_column(String(64), info=PERSONAL)
    collection: Mapped[str] = mapped_column(String(16))
    created_us: Mapped[int]
    note: Mapped[str] = mapped_column(String(500), server_default="")
    # Rises with each edit by a person; what a module says of itself leaves it.
    version: Mapped[int] = mapped_column(server_default="1")


class ModuleTag(Base):
    """A word that operators put on a module."""

    __tablename__ = "module_tags"

    module_id: Mapped[int] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"), primary_key=True)
    tag: Mapped[str] = mapped_column(String(40), primary_key=True, index=True)


class Credential(Base):
    """A user name, the SHA-256 of its secret, and what it may do. A module's patterns follow from its serial."""

    __tablename__ = "credentials"
    __table_args__ = (CheckConstraint("kind <> 'module' OR module_id IS NOT NULL", name="module_named"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str] = mapped_column(String(128), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    secret_sha256: Mapped[bytes] = mapped_column(LargeBinary(32))
    # MQTT filters, one a line; empty for a module.
    publish: Mapped[str] = mapped_column(String, server_default="")
    subscribe: Mapped[str] = mapped_column(String, server_default="")
    module_id: Mapped[int | None] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"), index=True)
    blocked_us: Mapped[int | None]
    created_us: Mapped[int]
    last_used_us: Mapped[int | None]
    note: Mapped[str] = mapped_column(String(500), server_default="")


class Channel(Base):
    """One measuring input of a module; a module has 1..n, numbered from 1."""

    __tablename__ = "channels"
    __table_args__ = (UniqueConstraint("module_id", "number"), CheckConstraint("number >= 1", name="from_one"))

    id: Mapped[int] = mapped_column(primary_key=True)
    module_id: Mapped[int] = mapped_column(ForeignKey("modules.id"))
    number: Mapped[int] = mapped_column(SmallInteger)
    note: Mapped[str] = mapped_column(String(500), server_default="")


class Site(Base):
    """A place that is supplied. Its city alone is no personal data: it is what group statistics are made by."""

    __tablename__ = "sites"

    id: Mapped[int] = mapped_column(primary_key=True)
    city: Mapped[str] = mapped_column(String(100), index=True)
    # IANA name, such as Europe/Paris.
    zone: Mapped[str] = mapped_column(String(64))
    street: Mapped[str | None] = mapped_column(String(200), info=PERSONAL)
    postcode: Mapped[str | None] = mapped_column(String(20), info=PERSONAL)
    # The supplier's number of the point of delivery (PDL, EAN, MPAN).
    delivery_point: Mapped[str | None] = mapped_column(String(40), info=PERSONAL)
    created_us: Mapped[int]
    # Rises with each edit.
    version: Mapped[int] = mapped_column(server_default="1")


class City(Base):
    """The number of a city, 1 and on: what its sums are kept under in the series store. Never reused, never erased."""

    __tablename__ = "cities"

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)


class Pairing(Base):
    """A site's meter is read by a channel, from - to."""

    __tablename__ = "pairings"
    __table_args__ = (
        CheckConstraint("to_us IS NULL OR to_us >= from_us", name="in_order"),
        Index(
            "uq_pairings_current",
            "channel_id",
            unique=True,
            sqlite_where=text("to_us IS NULL"),
            postgresql_where=text("to_us IS NULL"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("sites.id"), index=True)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"), index=True)
    meter_serial: Mapped[str | None] = mapped_column(String(64), info=PERSONAL)
    from_us: Mapped[int]
    to_us: Mapped[int | None]


class KeyLedger(Base):
    """Every series key ever given. Rows are never removed, so that an erased key can not come back for another home."""

    __tablename__ = "key_ledger"

    key: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class TokenLedger(Base):
    """Every token ever given, for the same reason."""

    __tablename__ = "token_ledger"

    token: Mapped[str] = mapped_column(String(12), primary_key=True)


class Holder(Base):
    """Who holds a supply contract, by the token that stands for them everywhere outside the registry."""

    __tablename__ = "holders"

    token: Mapped[str] = mapped_column(ForeignKey("token_ledger.token"), primary_key=True, info=PERSONAL)
    created_us: Mapped[int]


class Key(Base):
    """A series key: one supply period, site x meter (the pairing) x channel x holder, from - to."""

    __tablename__ = "keys"
    __table_args__ = (
        CheckConstraint("key > 0", name="positive"),
        CheckConstraint("to_us IS NULL OR to_us >= from_us", name="in_order"),
        Index(
            "uq_keys_current",
            "channel_id",
            unique=True,
            sqlite_where=text("to_us IS NULL"),
            postgresql_where=text("to_us IS NULL"),
        ),
    )

    key: Mapped[int] = mapped_column(ForeignKey("key_ledger.key"), primary_key=True, autoincrement=False)
    channel_id: Mapped[int] = mapped_column(ForeignKey("channels.id"), index=True)
    # Null: not assigned to a site yet, or no longer.
    pairing_id: Mapped[int | None] = mapped_column(ForeignKey("pairings.id"), index=True)
    holder_token: Mapped[str | None] = mapped_column(ForeignKey("holders.token"), index=True, info=PERSONAL)
    from_us: Mapped[int]
    to_us: Mapped[int | None]
    collection_level: Mapped[int] = mapped_column(SmallInteger)


class Operator(Base):
    """Somebody at the utility who logs in."""

    __tablename__ = "operators"

    id: Mapped[int] = mapped_column(primary_key=True)
    # What they log in with, and what stands in every log.
    name: Mapped[str] = mapped_column(String(64), unique=True)
    full_name: Mapped[str] = mapped_column(String(120), server_default="")
    role: Mapped[str] = mapped_column(String(16))
    # argon2id, with its parameters and salt.
    password_hash: Mapped[str] = mapped_column(String(255))
    must_change_password: Mapped[bool]
    password_us: Mapped[int]
    created_us: Mapped[int]
    # Refused from then on; rows stay, since logs name them.
    disabled_us: Mapped[int | None]
    # Failed log-ins since the last good one, and until when none is looked at.
    failed_logins: Mapped[int] = mapped_column(server_default="0")
    locked_until_us: Mapped[int | None]
    version: Mapped[int] = mapped_column(server_default="1")


class Session(Base):
    """A log-in: the SHA-256 of its token, and until when it holds."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    operator_id: Mapped[int] = mapped_column(ForeignKey("operators.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created_us: Mapped[int]
    expires_us: Mapped[int]
    used_us: Mapped[int]
    # What logged in, as it names itself.
    agent: Mapped[str] = mapped_column(String(200), server_default="")


class ApiToken(Base):
    """A third party's way in."""

    __tablename__ = "api_tokens"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    token_sha256: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    # Scopes, one a line.
    scopes: Mapped[str] = mapped_column(String)
    created_by: Mapped[str] = mapped_column(String(64))
    created_us: Mapped[int]
    expires_us: Mapped[int | None]
    used_us: Mapped[int | None]
    revoked_us: Mapped[int | None]


class SavedView(Base):
    """Filter, order and columns of a page under a name; an operator's own, or shared with all."""

    __tablename__ = "saved_views"
    __table_args__ = (UniqueConstraint("operator_id", "page", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    # Null: of the console that started the hub, which is no operator.
    operator_id: Mapped[int | None] = mapped_column(ForeignKey("operators.id", ondelete="CASCADE"))
    page: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(100))
    # JSON, the console's to understand.
    definition: Mapped[str] = mapped_column(String)
    shared: Mapped[bool]
    version: Mapped[int] = mapped_column(server_default="1")


class Command(Base):
    """A remote command to a module; app/domain/commands.py says how its state may change."""

    __tablename__ = "commands"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    module_id: Mapped[int] = mapped_column(ForeignKey("modules.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(40))
    # JSON.
    arguments: Mapped[str] = mapped_column(String)
    state: Mapped[str] = mapped_column(String(16), index=True)
    # The principal who sent it.
    sent_by: Mapped[str] = mapped_column(String(80))
    # Commands that were sent together.
    bulk_id: Mapped[str | None] = mapped_column(String(26), index=True)
    created_us: Mapped[int] = mapped_column(index=True)
    expires_us: Mapped[int]
    sent_us: Mapped[int | None]
    done_us: Mapped[int | None]
    # What the module answered, or why it failed; JSON.
    result: Mapped[str | None]


class Job(Base):
    """Long work with progress, that goes on after a restart."""

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    owner: Mapped[str] = mapped_column(String(80), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    # JSON: what is to be done, and how far it is.
    parameters: Mapped[str] = mapped_column(String)
    cursor: Mapped[str | None]
    done: Mapped[int] = mapped_column(server_default="0")
    total: Mapped[int | None]
    # The sentence for its owner: what it does now, or why it failed.
    message: Mapped[str] = mapped_column(String(500), server_default="")
    cancel_asked: Mapped[bool]
    created_us: Mapped[int] = mapped_column(index=True)
    started_us: Mapped[int | None]
    finished_us: Mapped[int | None]
    # Name of its result file below the data directory's jobs folder, and until when it is kept.
    result_file: Mapped[str | None] = mapped_column(String(200))
    result_expires_us: Mapped[int | None]


class Action(Base):
    """Who changed what, before and after. No secret and no personal value is in `before` and `after`."""

    __tablename__ = "actions"

    id: Mapped[int] = mapped_column(primary_key=True)
    at_us: Mapped[int] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(80), index=True)
    # verb.noun in the past tense's stem: module.block, site.edit.
    what: Mapped[str] = mapped_column(String(60))
    # kind:name, such as module:WD00001.
    subject: Mapped[str] = mapped_column(String(200), index=True)
    # JSON; null where there was or is nothing.
    before: Mapped[str | None]
    after: Mapped[str | None]


class AccessEntry(Base):
    """Who read which attributes of whom and why: a chain of hashes, appended to and never changed.

    The first look within a quarter of an hour is an entry of its own at once; how often it was repeated follows as a
    second entry (`count` above 1) when the quarter is over.
    """

    __tablename__ = "access_log"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    # Begin of the quarter of an hour.
    quarter_us: Mapped[int] = mapped_column(index=True)
    at_us: Mapped[int]
    operator: Mapped[str] = mapped_column(String(80), index=True)
    # kind:name, such as module:WD00001 or site:12.
    subject: Mapped[str] = mapped_column(String(200), index=True, info=PERSONAL)
    # Names of attributes, separated by commas.
    attributes: Mapped[str] = mapped_column(String(500))
    purpose: Mapped[str] = mapped_column(String(40))
    ticket: Mapped[str] = mapped_column(String(100))
    count: Mapped[int]
    # SHA-256 of the entry before, and of this one with it.
    previous: Mapped[bytes] = mapped_column(LargeBinary(32))
    sha256: Mapped[bytes] = mapped_column(LargeBinary(32))


class PersonKey(Base):
    """The key that a subject's personal columns are encrypted with in backups; without it they are noise."""

    __tablename__ = "person_keys"

    # kind:name, such as holder:c-..., site:12 or module:WD00001.
    subject: Mapped[str] = mapped_column(String(80), primary_key=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary(32), info=PERSONAL)
    created_us: Mapped[int]


class Erasure(Base):
    """What was erased, so that a restored backup erases it again. A number or token alone says nothing of a person."""

    __tablename__ = "erasures"

    id: Mapped[int] = mapped_column(primary_key=True)
    at_us: Mapped[int]
    # kind:name, such as key:123, holder:c-..., site:12, module:WD00001.
    subject: Mapped[str] = mapped_column(String(80), unique=True)


class ForeignDevice(Base):
    """A device of others that was heard, by the id its dialect gives it; adopted ones are modules."""

    __tablename__ = "foreign_devices"
    __table_args__ = (UniqueConstraint("dialect", "device"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    dialect: Mapped[str] = mapped_column(String(32))
    # Often a name that its owner has given it.
    device: Mapped[str] = mapped_column(String(200), info=PERSONAL)
    # discovered, adopted or ignored.
    state: Mapped[str] = mapped_column(String(16), index=True)
    module_id: Mapped[int | None] = mapped_column(ForeignKey("modules.id"), unique=True)
    name: Mapped[str | None] = mapped_column(String(100), info=PERSONAL)
    maker: Mapped[str | None] = mapped_column(String(64))
    model: Mapped[str | None] = mapped_column(String(64))
    firmware: Mapped[str | None] = mapped_column(String(64))
    # JSON: everything that was recognised, addresses and the name of a Wi-Fi among it; null: nothing, or forgotten.
    facts: Mapped[str | None] = mapped_column(String, info=PERSONAL)
    # W or VA, of its newest reading.
    power_kind: Mapped[str | None] = mapped_column(String(2))
    messages: Mapped[int]
    first_seen_us: Mapped[int]
    last_seen_us: Mapped[int]
    # Who adopted, ignored or restored it last.
    changed_by: Mapped[str | None] = mapped_column(String(80))
    changed_us: Mapped[int | None]


def table(model: type[Base]) -> Table:
    """The Core table of a model, for bulk work."""
    core = model.__table__
    assert isinstance(core, Table)
    return core


def personal_columns() -> dict[str, tuple[str, ...]]:
    """Table name -> its columns with personal data, for the data map."""
    return {
        core.name: marked
        for core in Base.metadata.sorted_tables
        if (marked := tuple(column.name for column in core.columns if column.info.get("personal")))
    }
