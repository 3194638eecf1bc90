"""What the registry's tables hold of somebody or something, and how they forget it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection
from sqlalchemy.orm import InstrumentedAttribute

from app.domain.data_map import About, DataSubject, HeldKey
from app.stores.registry.erasures import remember_erased
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.models import (
    AccessEntry,
    Action,
    Base,
    Channel,
    Command,
    Credential,
    Erasure,
    ForeignDevice,
    Holder,
    Job,
    Key,
    KeyLedger,
    Module,
    ModuleTag,
    Pairing,
    PersonKey,
    SavedView,
    Site,
    TokenLedger,
    table,
)

Condition = Callable[[DataSubject], ColumnElement[bool]]


def subject_of_module(connection: Connection, serial: str) -> DataSubject:
    """A module and everything it ever measured. Raises UnknownNameError."""
    if "\0" in serial or connection.execute(sa.select(Module.id).where(Module.serial == serial)).scalar() is None:
        raise UnknownNameError("module", serial)
    return _subject(connection, About.MODULE, serial, Module.serial == serial)


def subject_of_holder(connection: Connection, token: str) -> DataSubject:
    """A holder and the periods of their supply. Raises UnknownNameError."""
    if "\0" in token or connection.execute(sa.select(Holder.token).where(Holder.token == token)).scalar() is None:
        raise UnknownNameError("holder", token)
    return _subject(connection, About.PERSON, token, Key.holder_token == token)


def _subject(connection: Connection, kind: About, name: str, condition: ColumnElement[bool]) -> DataSubject:
    query = (
        sa.select(Key.key, Module.serial, Key.from_us, Key.to_us, Pairing.site_id)
        .join_from(Key, Channel, Key.channel_id == Channel.id)
        .join(Module)
        .join(Pairing, Key.pairing_id == Pairing.id, isouter=True)
        .where(condition)
        .order_by(Key.from_us, Key.key)
    )
    rows = connection.execute(query).all()
    keys = tuple(HeldKey(row.key, row.serial, row.from_us, row.to_us) for row in rows)
    return DataSubject(kind, name, keys, tuple(sorted({row.site_id for row in rows if row.site_id is not None})))


def _names(subject: DataSubject) -> list[str]:
    """Everything that stands for the subject as kind:name."""
    return [subject.words, *(f"site:{site}" for site in subject.sites), *(f"key:{held.key}" for held in subject.keys)]


def _modules(subject: DataSubject) -> sa.Select[int]:
    return sa.select(Module.id).where(Module.serial.in_(subject.serials))


def _in_spans(subject: DataSubject) -> ColumnElement[bool]:
    ids = {
        serial: sa.select(Module.id).where(Module.serial == serial).scalar_subquery() for serial, *_ in subject.spans
    }
    return sa.or_(
        sa.false(),
        *(
            sa.and_(Command.module_id == ids[serial], Command.created_us >= from_us, Command.created_us < to_us)
            for serial, from_us, to_us in subject.spans
        ),
    )


def _keys(subject: DataSubject) -> list[int]:
    return [held.key for held in subject.keys]


def _named(column: InstrumentedAttribute[str], subject: DataSubject) -> ColumnElement[bool]:
    """A JSON text that has the name as a value of its own or in a filter; WD1 is no part of WD10."""
    forms = [f"{before}{subject.name}{after}" for before in '":|' for after in '"|']
    return sa.or_(*(column.contains(form, autoescape=True) for form in forms))


# Table -> the rows that are the subject's. Tables that have none of anybody stand in NOBODYS.
CONDITIONS: Mapping[str, Condition] = {
    "modules": lambda subject: Module.serial.in_(subject.serials),
    "module_tags": lambda subject: ModuleTag.module_id.in_(_modules(subject)),
    "credentials": lambda subject: Credential.module_id.in_(_modules(subject)),
    "channels": lambda subject: Channel.module_id.in_(_modules(subject)),
    "sites": lambda subject: sa.and_(
        Site.id.in_(subject.sites),
        sa.or_(Site.street.is_not(None), Site.postcode.is_not(None), Site.delivery_point.is_not(None)),
    ),
    "pairings": lambda subject: Pairing.id.in_(sa.select(Key.pairing_id).where(Key.key.in_(_keys(subject)))),
    "key_ledger": lambda subject: KeyLedger.key.in_(_keys(subject)),
    "token_ledger": lambda subject: TokenLedger.token == subject.name,
    "holders": lambda subject: Holder.token == subject.name,
    "keys": lambda subject: Key.key.in_(_keys(subject)),
    "saved_views": lambda subject: _named(SavedView.definition, subject),
    "commands": _in_spans,
    "jobs": lambda subject: _named(Job.parameters, subject),
    "actions": lambda subject: Action.subject.in_(_names(subject)),
    "access_log": lambda subject: AccessEntry.subject.in_(_names(subject)),
    "foreign_devices": lambda subject: sa.and_(
        ForeignDevice.module_id.in_(_modules(subject)),
        sa.or_(ForeignDevice.facts.is_not(None), ForeignDevice.name.is_not(None)),
    ),
    "person_keys": lambda subject: PersonKey.subject.in_(_names(subject)),
    "erasures": lambda subject: Erasure.subject.in_(_names(subject)),
}
NOBODYS = frozenset({"cities", "operators", "sessions", "api_tokens", "alembic_version"})


def tables_of(connection: Connection) -> list[str]:
    """The tables that are there, whoever made them."""
    return sorted(sa.inspect(connection).get_table_names())


def count_of(connection: Connection, name: str, subject: DataSubject) -> int:
    """How many rows of a table are the subject's."""
    if name in NOBODYS:
        return 0
    rows = sa.select(sa.func.count()).select_from(Base.metadata.tables[name]).where(CONDITIONS[name](subject))
    return connection.execute(rows).scalar_one()


def _delete(name: str) -> Callable[[Connection, DataSubject], int]:
    def delete(connection: Connection, subject: DataSubject) -> int:
        rows = Base.metadata.tables[name]
        return connection.execute(sa.delete(rows).where(CONDITIONS[name](subject))).rowcount

    return delete


def _forget_sites(connection: Connection, subject: DataSubject) -> int:
    """Where nobody is supplied any more by what the registry still knows."""
    supplied = sa.select(Pairing.id).where(Pairing.site_id == Site.id).exists()
    values = {"street": None, "postcode": None, "delivery_point": None, "version": Site.version + 1}
    changed = connection.execute(sa.update(table(Site)).where(CONDITIONS["sites"](subject), ~supplied).values(values))
    return changed.rowcount


def _forget_holder(connection: Connection, subject: DataSubject) -> int:
    supplied = sa.select(Key.key).where(Key.holder_token == Holder.token).exists()
    return connection.execute(sa.delete(table(Holder)).where(CONDITIONS["holders"](subject), ~supplied)).rowcount


def _forget_meter(connection: Connection, subject: DataSubject) -> int:
    """A meter's number and a note are of the place where the module is; the module itself stays."""
    if subject.kind is not About.MODULE:
        return 0
    values = {"meter_serial": None, "note": "", "version": Module.version + 1}
    return connection.execute(sa.update(table(Module)).where(Module.serial == subject.name).values(values)).rowcount


def _forget_facts(connection: Connection, subject: DataSubject) -> int:
    """Its name, its Wi-Fi and its addresses are of the place where it is; which device a module is, is hardware."""
    rows = table(ForeignDevice)
    values = {"facts": None, "name": None, "power_kind": None}
    return connection.execute(sa.update(rows).where(CONDITIONS["foreign_devices"](subject)).values(values)).rowcount


def _forget_person_keys(connection: Connection, subject: DataSubject) -> int:
    """Remembered as erased: a key that only vanished would look like one of another hub to the backups."""
    rows = sa.select(PersonKey.subject).where(CONDITIONS["person_keys"](subject))
    names = list(connection.execute(rows).scalars())
    for name in names:
        remember_erased(connection, name, time.time_ns() // 1000)
    return len(names)


# Table -> forgets what can be forgotten there now; how many rows.
FORGET: Mapping[str, Callable[[Connection, DataSubject], int]] = {
    "modules": _forget_meter,
    "module_tags": _delete("module_tags"),
    "sites": _forget_sites,
    "holders": _forget_holder,
    "saved_views": _delete("saved_views"),
    "commands": _delete("commands"),
    "foreign_devices": _forget_facts,
    "person_keys": _forget_person_keys,
}
