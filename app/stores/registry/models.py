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
