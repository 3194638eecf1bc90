"""Reads what a table over the whole fleet is made of: all of it, or a few hundred modules or sites at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.credentials import CredentialKind
from app.stores.registry.models import Channel, Credential, Key, Module, ModuleTag, Pairing, Site
from app.stores.registry.registry import Registry

# Rows that are fetched in one go, a millisecond or two of the interpreter.
_FETCHED_AT_ONCE = 500


class FleetRow(NamedTuple):
    """A module as lists and search know it.

    `site_id` and `city` are those of its first paired channel; `blocked` is None for one without a credential. Meter
    serials and holders are those of now, of every channel.
    """

    serial: str
    kind: str
    dialect: str
    hardware: str | None
    firmware: str | None
    period_ms: int | None
    collection: str
    created_us: int
    version: int
    blocked: bool | None
    last_used_us: int | None
    tags: tuple[str, ...]
    site_id: int | None
    city: str | None
    meter_serials: tuple[str, ...]
    holders: tuple[str, ...]


class SiteRow(NamedTuple):
    """A site as search knows it."""

    id: int
    city: str
    street: str | None
    postcode: str | None
    delivery_point: str | None


class FleetRows:
    """Reads modules and sites. Every method blocks."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def all_modules(self, at_once: int) -> Iterator[list[FleetRow]]:
        """Every module, some at a time: four statements for the whole fleet."""
        with self._registry.reading_at_one_moment() as connection:
            about = _About(connection, None)
            for rows in connection.execute(_MODULES.order_by(Module.serial)).partitions(at_once):
                yield [about.row(row) for row in rows]

    def all_sites(self, at_once: int) -> Iterator[list[SiteRow]]:
        """Every site, some at a time."""
        with self._registry.reading() as connection:
            for rows in connection.execute(_SITES.order_by(Site.id)).partitions(at_once):
                yield [SiteRow(*row) for row in rows]

    def modules(self, serials: Sequence[str]) -> list[FleetRow]:
        """The modules of these that are registered; a few hundred at most."""
        with self._registry.reading() as connection:
            rows = connection.execute(_MODULES.where(Module.serial.in_(serials))).all()
            about = _About(connection, [row[0] for row in rows])
            return [about.row(row) for row in rows]

    def sites(self, numbers: Sequence[int]) -> list[SiteRow]:
        """The sites of these that exist; a few hundred at most."""
        with self._registry.reading() as connection:
            return [SiteRow(*row) for row in connection.execute(_SITES.where(Site.id.in_(numbers)))]


_SITES = sa.select(Site.id, Site.city, Site.street, Site.postcode, Site.delivery_point)
_MODULES = sa.select(
    Module.id,
    Module.serial,
    Module.kind,
    Module.dialect,
    Module.hardware,
    Module.firmware,
    Module.period_ms,
    Module.collection,
    Module.created_us,
    Module.version,
    Module.meter_serial,
    Credential.id,
    Credential.blocked_us,
    Credential.last_used_us,
).join(
    Credential,
    sa.and_(Credential.module_id == Module.id, Credential.kind == CredentialKind.MODULE.value),
    isouter=True,
)
_TAGS = sa.select(ModuleTag.module_id, ModuleTag.tag)
_PAIRED = (
    sa.select(Channel.module_id, Pairing.site_id, Site.city, Pairing.meter_serial)
    .join_from(Pairing, Channel)
    .join(Site)
    .where(Pairing.to_us.is_(None))
    .order_by(Channel.number)
)
_HELD = (
    sa.select(Channel.module_id, Key.holder_token)
    .join_from(Key, Channel)
    .where(Key.to_us.is_(None), Key.holder_token.is_not(None))
)


class _About:
    """What other tables hold of modules, by their numbers."""

    def __init__(self, connection: Connection, modules: Sequence[int] | None) -> None:
        """Of some modules, or of all."""

        def read(query: sa.Select[Any, *tuple[Any, ...]], of: sa.ColumnElement[int]) -> Mapping[int, list[Any]]:
            found: dict[int, list[Any]] = {}
            chosen = query if modules is None else query.where(of.in_(modules))
            for rows in connection.execute(chosen).partitions(_FETCHED_AT_ONCE):
                for module, *rest in rows:
                    found.setdefault(module, []).append(rest)
            return found

        self._tags = read(_TAGS, ModuleTag.module_id.expression)
        self._paired = read(_PAIRED, Channel.module_id.expression)
        self._held = read(_HELD, Channel.module_id.expression)

    def row(self, found: Sequence[Any]) -> FleetRow:
        """The whole of a module."""
        number, serial, kind, dialect, hardware, firmware, period_ms, collection, created_us, version, *rest = found
        meter_serial, credential, blocked_us, last_used_us = rest
        pairings = self._paired.get(number, ())
        site_id, city, _meter = pairings[0] if pairings else (None, None, None)
        meters = {meter_serial, *(meter for _, _, meter in pairings)} - {None}
        return FleetRow(
            serial=serial,
            kind=kind,
            dialect=dialect,
            hardware=hardware,
            firmware=firmware,
            period_ms=period_ms,
            collection=collection,
            created_us=created_us,
            version=version,
            blocked=None if credential is None else blocked_us is not None,
            last_used_us=last_used_us,
            tags=tuple(sorted(tag for (tag,) in self._tags.get(number, ()))),
            site_id=site_id,
            city=city,
            meter_serials=tuple(sorted(meters)),
            holders=tuple(sorted({token for (token,) in self._held.get(number, ())})),
        )
