"""Reads what a table over the whole fleet is made of, a few hundred modules or sites at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.credentials import CredentialKind
from app.stores.registry.models import Channel, Credential, Key, Module, ModuleTag, Pairing, Site
from app.stores.registry.registry import Registry


@dataclasses.dataclass(frozen=True, slots=True)
class FleetRow:
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


@dataclasses.dataclass(frozen=True, slots=True)
class SiteRow:
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

    def serials(self) -> list[str]:
        """Every module."""
        with self._registry.reading() as connection:
            return list(connection.execute(sa.select(Module.serial).order_by(Module.serial)).scalars())

    def site_ids(self) -> list[int]:
        """Every site."""
        with self._registry.reading() as connection:
            return list(connection.execute(sa.select(Site.id).order_by(Site.id)).scalars())

    def modules(self, serials: Sequence[str]) -> list[FleetRow]:
        """The modules of these that are registered; a few hundred at most."""
        with self._registry.reading() as connection:
            return _modules(connection, serials)

    def sites(self, numbers: Sequence[int]) -> list[SiteRow]:
        """The sites of these that exist; a few hundred at most."""
        query = sa.select(Site.id, Site.city, Site.street, Site.postcode, Site.delivery_point)
        with self._registry.reading() as connection:
            return [SiteRow(*row) for row in connection.execute(query.where(Site.id.in_(numbers)))]


def _modules(connection: Connection, serials: Sequence[str]) -> list[FleetRow]:
    query = (
        sa.select(
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
        )
        .join(
            Credential,
            sa.and_(Credential.module_id == Module.id, Credential.kind == CredentialKind.MODULE.value),
            isouter=True,
        )
        .where(Module.serial.in_(serials))
    )
    rows = connection.execute(query).all()
    ids = [row[0] for row in rows]
    tags = _by_module(connection, sa.select(ModuleTag.module_id, ModuleTag.tag).where(ModuleTag.module_id.in_(ids)))
    paired = _by_module(
        connection,
        sa.select(Channel.module_id, Pairing.site_id, Site.city, Pairing.meter_serial)
        .join_from(Pairing, Channel)
        .join(Site)
        .where(Channel.module_id.in_(ids), Pairing.to_us.is_(None))
        .order_by(Channel.number),
    )
    held = _by_module(
        connection,
        sa.select(Channel.module_id, Key.holder_token)
        .join_from(Key, Channel)
        .where(Channel.module_id.in_(ids), Key.to_us.is_(None), Key.holder_token.is_not(None)),
    )
    found = []
    for number, serial, kind, dialect, hardware, firmware, period_ms, collection, created_us, version, *rest in rows:
        meter_serial, credential, blocked_us, last_used_us = rest
        pairings = paired.get(number, ())
        site_id, city, _meter = pairings[0] if pairings else (None, None, None)
        meters = {meter_serial, *(meter for _, _, meter in pairings)} - {None}
        found.append(
            FleetRow(
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
                tags=tuple(sorted(tag for (tag,) in tags.get(number, ()))),
                site_id=site_id,
                city=city,
                meter_serials=tuple(sorted(meters)),
                holders=tuple(sorted({token for (token,) in held.get(number, ())})),
            )
        )
    return found


def _by_module(connection: Connection, query: sa.Select[Any, *tuple[Any, ...]]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for module, *rest in connection.execute(query):
        found.setdefault(module, []).append(rest)
    return found
