"""Sites as people read and change them; each change with its deed in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.errors import OperatorInputError, VersionConflict
from app.domain.listing import Comparison, Condition, Found, Listing
from app.stores.registry import places
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.models import PERSONAL, Channel, Module, Pairing, Site, table
from app.stores.registry.records import ModulesChanged, NewSite, SitesChanged
from app.stores.registry.registry import Registry, wall_clock_us

# SQL knows no larger number; nothing has one.
_LARGEST_ID = 2**62


@dataclasses.dataclass(frozen=True, slots=True)
class SiteFile:
    """A site, and how many modules are paired with it now."""

    id: int
    city: str
    zone: str
    street: str | None
    postcode: str | None
    delivery_point: str | None
    created_us: int
    version: int
    modules: int


_modules = (
    sa.select(sa.func.count())
    .select_from(Pairing)
    .where(Pairing.site_id == Site.id, Pairing.to_us.is_(None))
    .correlate(Site)
    .scalar_subquery()
)
_COLUMNS: Mapping[str, Any] = {
    "id": Site.id,
    "city": Site.city,
    "zone": Site.zone,
    "street": Site.street,
    "postcode": Site.postcode,
    "delivery_point": Site.delivery_point,
    "created_us": Site.created_us,
    "version": Site.version,
    "modules": _modules,
}
_FIELDS = sa.select(*(column.label(name) for name, column in _COLUMNS.items()))


class SiteEdits:
    """Every method blocks."""

    def __init__(self, registry: Registry, *, now_us: Callable[[], int] = wall_clock_us) -> None:
        self._registry = registry
        self._now_us = now_us

    def page(self, listing: Listing) -> Found[SiteFile]:
        """A page of the sites, by number unless the listing says otherwise."""
        conditions = [_where(condition) for condition in listing.conditions]
        order = []
        for wanted in listing.sort:
            column = _COLUMNS[wanted.column]
            order += [column.is_(None), column.desc() if wanted.descending else column]
        query = _FIELDS.where(*conditions).order_by(*order, Site.id).offset(listing.offset).limit(listing.limit)
        counted = sa.select(sa.func.count()).select_from(Site).where(*conditions)
        with self._registry.reading() as connection:
            rows = [SiteFile(*row) for row in connection.execute(query)]
            total = connection.execute(counted).scalar_one()
        return Found(rows, total, listing.offset, listing.limit)

    def one(self, number: int) -> SiteFile:
        """A site. Raises UnknownNameError."""
        with self._registry.reading() as connection:
            return _one(connection, number)

    def some(self, numbers: Sequence[int]) -> dict[int, SiteFile]:
        """Those that exist of a few hundred sites at most."""
        with self._registry.reading() as connection:
            return {row.id: SiteFile(*row) for row in connection.execute(_FIELDS.where(Site.id.in_(numbers)))}

    def create(self, actor: str, site: NewSite) -> SiteFile:
        """Add a site. Raises OperatorInputError for an unknown time zone."""
        with self._registry.writing() as connection:
            now_us = self._now_us()
            (number,) = places.add_sites(connection, [site], now_us)
            record(
                connection, Deed(actor, "site.create", f"site:{number}", None, _told(dataclasses.asdict(site))), now_us
            )
            created = _one(connection, number)
        self._registry.tell(SitesChanged((number,)))
        return created

    def edit(self, actor: str, number: int, version: int, values: Mapping[str, Any]) -> SiteFile:
        """Correct a site. Raises UnknownNameError, VersionConflict, OperatorInputError for an unknown time zone."""
        if "zone" in values:
            places.check_zones({values["zone"]})
        with self._registry.writing() as connection:
            before = _one(connection, number)
            if "city" in values:
                places.number_cities(connection, {values["city"]})
            changed = connection.execute(
                sa.update(Site)
                .where(Site.id == number, Site.version == version)
                .values(version=Site.version + 1, **values)
            )
            if changed.rowcount == 0:
                raise VersionConflict
            facts = {name: getattr(before, name) for name in values}
            deed = Deed(actor, "site.edit", f"site:{number}", _told(facts), _told(values))
            record(connection, deed, self._now_us())
            after = _one(connection, number)
            serials = _serials(connection, number)
        moved = (before.city, before.zone) != (after.city, after.zone)
        self._registry.tell(SitesChanged((number,), moved))
        if serials:
            self._registry.tell(ModulesChanged(serials))
        return after

    def delete(self, actor: str, number: int, version: int) -> None:
        """Remove a site that was never paired. Raises UnknownNameError, VersionConflict, RefusedChangeError."""
        with self._registry.writing() as connection:
            before = _one(connection, number)
            if before.version != version:
                raise VersionConflict
            if connection.execute(sa.select(sa.select(Pairing.id).where(Pairing.site_id == number).exists())).scalar():
                raise RefusedChangeError(f"site {number} has or had a module: its readings belong to it")
            connection.execute(sa.delete(Site).where(Site.id == number))
            record(connection, Deed(actor, "site.delete", f"site:{number}", {"city": before.city}), self._now_us())
        self._registry.tell(SitesChanged((number,)))


def _one(connection: Connection, number: int) -> SiteFile:
    row = None
    if 0 < number < _LARGEST_ID:
        row = connection.execute(_FIELDS.where(Site.id == number)).one_or_none()
    if row is None:
        raise UnknownNameError("site", str(number)[:20])
    return SiteFile(*row)


def _serials(connection: Connection, number: int) -> tuple[str, ...]:
    query = (
        sa.select(Module.serial)
        .join_from(Module, Channel)
        .join(Pairing)
        .where(Pairing.site_id == number, Pairing.to_us.is_(None))
    )
    return tuple(dict.fromkeys(connection.execute(query).scalars()))


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a deed may hold: of a personal value no more than whether there is one."""
    personal = {column.name for column in table(Site).columns if column.info == PERSONAL}
    return {name: ("set" if value else None) if name in personal else value for name, value in values.items()}


def _where(condition: Condition) -> sa.ColumnElement[bool]:
    column = _COLUMNS[condition.column]
    values = condition.value if isinstance(condition.value, tuple) else (condition.value,)
    if any(isinstance(value, str) and "\x00" in value for value in values):
        raise OperatorInputError("no text has a NUL character")
    match condition.comparison:
        case Comparison.EQUAL:
            found = column == condition.value
        case Comparison.UNEQUAL:
            found = column.is_distinct_from(condition.value)
        case Comparison.LESS:
            found = column < condition.value
        case Comparison.AT_MOST:
            found = column <= condition.value
        case Comparison.MORE:
            found = column > condition.value
        case Comparison.AT_LEAST:
            found = column >= condition.value
        case Comparison.AMONG:
            found = column.in_(condition.value)
        case Comparison.HAS:
            # The database folds what it can; search knows accents and every alphabet.
            found = column.icontains(condition.value, autoescape=True)
    return found  # type: ignore[no-any-return]
