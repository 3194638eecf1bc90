"""New modules as people bring them in: one, or a whole file with its sites; all of it or nothing, with its deeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from app.domain.keys import CollectionLevel, draw_keys
from app.stores.registry import places, provisioning, supply
from app.stores.registry.actions import Deed, record_many
from app.stores.registry.chunks import chunks
from app.stores.registry.models import Module, ModuleTag, Site, table
from app.stores.registry.provisioning import Template
from app.stores.registry.records import GIVEN, CredentialsChanged, ModulesChanged, NewSite, Provisioned, SitesChanged
from app.stores.registry.registry import Registry, wall_clock_us


@dataclasses.dataclass(frozen=True, slots=True)
class NewModule:
    """A module to be registered; `site` may be a new one or the number of one that exists."""

    serial: str
    site: NewSite | int | None = None
    tags: tuple[str, ...] = ()
    note: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Admitted:
    """What came of it; the secrets are told this once."""

    credentials: tuple[Provisioned, ...]
    new_sites: tuple[int, ...]


class Admission:
    """Every method blocks."""

    def __init__(
        self,
        registry: Registry,
        *,
        now_us: Callable[[], int] = wall_clock_us,
        keys: supply.KeySource = draw_keys,
    ) -> None:
        self._registry = registry
        self._now_us = now_us
        self._keys = keys

    def taken(self, serials: Sequence[str]) -> set[str]:
        """Which of these are registered."""
        with self._registry.reading() as connection:
            return set(serials) - set(provisioning.missing_modules(connection, serials))

    def sites_at(self, delivery_points: Sequence[str]) -> dict[str, list[int]]:
        """The sites of each of these delivery points that has any."""
        found: dict[str, list[int]] = {}
        with self._registry.reading() as connection:
            for part in chunks(delivery_points):
                query = sa.select(Site.delivery_point, Site.id).where(Site.delivery_point.in_(part)).order_by(Site.id)
                for point, number in connection.execute(query):
                    found.setdefault(str(point), []).append(number)
        return found

    def admit(
        self,
        actor: str,
        modules: Sequence[NewModule],
        *,
        period_ms: int | None = 1000,
        level: CollectionLevel = CollectionLevel.SECOND,
    ) -> Admitted:
        """Register modules with their sites, pairings, tags, notes and credentials. Equal new sites become one.

        Raises OperatorInputError for what can be no serial or time zone, NameTakenError, UnknownNameError for a site.
        """
        serials = [module.serial for module in modules]
        with self._registry.writing() as connection:
            now_us = self._now_us()
            new = list(dict.fromkeys(module.site for module in modules if isinstance(module.site, NewSite)))
            numbers = places.add_sites(connection, new, now_us)
            site_of = _site_of(modules, dict(zip(new, numbers, strict=True)))
            self._register(connection, serials, site_of, Template(period_ms=period_ms, level=level), now_us)
            given = provisioning.give_credentials(connection, serials, now_us)
            _describe(connection, modules)
            deeds = [
                Deed(actor, "site.create", f"site:{number}", None, {"city": site.city})
                for site, number in zip(new, numbers, strict=True)
            ]
            deeds += [
                Deed(actor, "module.create", f"module:{serial}", None, {"site": site_of.get(serial)})
                for serial in serials
            ]
            record_many(connection, deeds, now_us)
        self._registry.tell(SitesChanged(tuple(numbers)))
        self._registry.tell(ModulesChanged(tuple(serials)))
        self._registry.tell(CredentialsChanged(tuple(serials), GIVEN))
        return Admitted(tuple(given), tuple(numbers))

    def _register(
        self,
        connection: Connection,
        serials: Sequence[str],
        site_of: Mapping[str, int],
        template: Template,
        now_us: int,
    ) -> None:
        # Checked together first, so that a serial that is twice in the list is found wherever it stands.
        provisioning.check_serials(connection, serials)
        housed = [serial for serial in serials if serial in site_of]
        sites = tuple(site_of[serial] for serial in housed)
        provisioning.register(connection, housed, dataclasses.replace(template, sites=sites), now_us, self._keys)
        homeless = [serial for serial in serials if serial not in site_of]
        provisioning.register(connection, homeless, template, now_us, self._keys)


def _site_of(modules: Sequence[NewModule], numbers: Mapping[NewSite, int]) -> dict[str, int]:
    return {
        module.serial: numbers[module.site] if isinstance(module.site, NewSite) else module.site
        for module in modules
        if module.site is not None
    }


def _describe(connection: Connection, modules: Sequence[NewModule]) -> None:
    ids = provisioning.module_ids(connection, [module.serial for module in modules if module.tags or module.note])
    tags = [{"module_id": ids[module.serial], "tag": tag} for module in modules for tag in sorted(set(module.tags))]
    if tags:
        connection.execute(sa.insert(table(ModuleTag)), tags)
    columns = table(Module).c
    statement = (
        sa.update(table(Module)).where(columns.id == sa.bindparam("of_id")).values(note=sa.bindparam("new_note"))
    )
    notes = [{"of_id": ids[module.serial], "new_note": module.note} for module in modules if module.note]
    if notes:
        connection.execute(statement, notes)
