"""Modules with their facts, and sites, in the database."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.errors import OperatorInputError
from app.stores.registry.chunks import chunks
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.models import Channel, City, Module, Site, table
from app.stores.registry.records import Collection, ModuleFacts, ModuleKind, ModuleRecord, NewSite, SiteRecord


def modules(connection: Connection, serials: Sequence[str] | None) -> list[ModuleRecord]:
    """Modules by serial; every one when no serials are given."""
    query = (
        sa.select(
            Module.serial,
            Module.kind,
            Module.dialect,
            Module.period_ms,
            Module.firmware,
            Module.hardware,
            Module.meter_serial,
            Module.collection,
            Module.created_us,
            Channel.number,
        )
        .join(Channel)
        .order_by(Module.serial, Channel.number)
    )
    parts = [query] if serials is None else [query.where(Module.serial.in_(part)) for part in chunks(sorted(serials))]
    found: dict[str, tuple[Sequence[Any], list[int]]] = {}
    for part in parts:
        for *facts, number in connection.execute(part):
            found.setdefault(facts[0], (facts, []))[1].append(number)
    return [
        ModuleRecord(
            serial=serial,
            kind=ModuleKind(facts[1]),
            dialect=facts[2],
            period_ms=facts[3],
            firmware=facts[4],
            hardware=facts[5],
            meter_serial=facts[6],
            collection=Collection(facts[7]),
            created_us=facts[8],
            channels=tuple(numbers),
        )
        for serial, (facts, numbers) in found.items()
    ]


def set_facts_of_many(connection: Connection, facts: Mapping[str, ModuleFacts]) -> None:
    """Write what modules say of themselves; what they do not say stays, unknown modules are passed over."""
    columns = [
        {"of_serial": serial, **{f"new_{name}": value for name, value in said._asdict().items()}}
        for serial, said in facts.items()
    ]
    values = {
        name: sa.func.coalesce(sa.bindparam(f"new_{name}", type_=table(Module).c[name].type), table(Module).c[name])
        for name in ModuleFacts._fields
    }
    statement = sa.update(table(Module)).where(table(Module).c.serial == sa.bindparam("of_serial")).values(values)
    connection.execute(statement, columns)


def set_facts(connection: Connection, serial: str, facts: dict[str, Any]) -> None:
    """Write columns of a module. Raises UnknownNameError."""
    # An update without columns is no statement; writing the serial over itself still tells whether it is there.
    values = facts or {"serial": serial}
    if connection.execute(sa.update(Module).where(Module.serial == serial).values(values)).rowcount == 0:
        raise UnknownNameError("module", serial)


def set_collection(connection: Connection, serial: str, collection: Collection) -> None:
    """Pause, retire or resume a module. Raises UnknownNameError."""
    set_facts(connection, serial, {"collection": collection.value})


def add_sites(connection: Connection, new: Sequence[NewSite], now_us: int) -> list[int]:
    """Add sites; their numbers, in order. Raises OperatorInputError for an unknown time zone."""
    check_zones({site.zone for site in new})
    if not new:
        return []
    number_cities(connection, {site.city for site in new})
    rows = [
        {
            "city": site.city,
            "zone": site.zone,
            "street": site.street,
            "postcode": site.postcode,
            "delivery_point": site.delivery_point,
            "created_us": now_us,
        }
        for site in new
    ]
    statement = sa.insert(table(Site)).returning(Site.id, sort_by_parameter_order=True)
    return list(connection.execute(statement, rows).scalars())


def check_zones(zones: Iterable[str]) -> None:
    """Raises OperatorInputError for what is no IANA time zone."""
    for zone in zones:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise OperatorInputError(f"{zone[:64]!r} is no IANA time zone such as Europe/Paris") from error


def number_cities(connection: Connection, names: set[str]) -> None:
    """Give each city that has none its number. Few at a time: the cities of one call's sites."""
    known = set(connection.execute(sa.select(City.name)).scalars())
    fresh = sorted(names - known)
    if fresh:
        connection.execute(sa.insert(table(City)), [{"name": name} for name in fresh])


def sites(connection: Connection) -> list[SiteRecord]:
    """Every site, by number."""
    query = sa.select(Site.id, Site.city, Site.zone, Site.street, Site.postcode, Site.delivery_point).order_by(Site.id)
    return [SiteRecord(*row) for row in connection.execute(query)]


def city_numbers(connection: Connection) -> dict[str, int]:
    """The number of every city, by name."""
    return dict(connection.execute(sa.select(City.name, City.number)).all())
