"""Modules: the list, one module's facts, what is personal of it, tags, cities, search."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter, QueryParameter

from app.api.access import ApiRequest, Gate, needs
from app.api.lists import listing_of
from app.api.routing import editing, putting, reading
from app.api.versions import IfMatch, etag, version_of
from app.domain.errors import OperatorInputError
from app.domain.listing import Column, Listing
from app.domain.people import Scope
from app.protocol.api.common import Page
from app.protocol.api.fleet import (
    ChannelNow,
    ChannelPersonal,
    Count,
    LiveNow,
    ModuleEdit,
    ModuleFacts,
    ModulePersonal,
    ModulePower,
    ModuleRow,
    SearchAnswer,
    SearchHit,
    TagSet,
)
from app.services.fleet.fleet import Fleet, Selection
from app.services.fleet.operations import FleetOperations
from app.services.fleet.search import MOST_RESULTS
from app.stores.registry.module_edits import ModuleFile
from app.stores.registry.site_edits import SiteEdits

COLUMNS = {
    "serial": Column(str),
    "kind": Column(str),
    "dialect": Column(str),
    "hardware": Column(str),
    "firmware": Column(str),
    "period_ms": Column(int),
    "collection": Column(str),
    "city": Column(str),
    "site_id": Column(int),
    "tags": Column(str, sortable=False),
    "blocked": Column(bool),
    "created_us": Column(int),
    "connected": Column(bool),
    "state": Column(str),
    "last_us": Column(int),
    "age_s": Column(float),
    "rssi_dbm": Column(int),
    "frame_gap_ms": Column(int),
    "received": Column(int),
    "version": Column(int),
}
POWER_COLUMNS = {**COLUMNS, "power": Column(float), "power_kind": Column(str)}
_ROW = ModuleRow.__struct_fields__
_POWER = ModulePower.__struct_fields__
_LIVE = LiveNow.__struct_fields__

SerialInPath = Annotated[
    str,
    PathParameter(min_length=1, max_length=64, description="the module's serial", examples=[Example(value="WD00001")]),
]
Question = Annotated[
    str,
    QueryParameter(
        name="q",
        min_length=1,
        max_length=100,
        description="part of any identifier",
        examples=[Example(value="rue des lilas")],
    ),
]
_PERSONAL = ("street", "postcode", "delivery_point", "meter_serial", "holder")


def module_routes(fleet: Fleet, operations: FleetOperations, sites: SiteEdits, gate: Gate) -> list[HTTPRouteHandler]:
    """Lists come from the fleet's table, which follows the registry within a moment; one module from the registry."""

    @reading(
        "/v1/modules",
        needs(Scope.FLEET_READ),
        dependencies={"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def modules(listing: NamedDependency[Listing]) -> Page[ModuleRow]:
        """The modules, by serial unless `sort` says otherwise; with how each is doing now."""
        found = fleet.select(listing)
        rows = zip(*(found.values(name) for name in _ROW), strict=True)
        return Page([ModuleRow(*row) for row in rows], found.total, listing.offset, listing.limit)

    @reading(
        "/v1/modules/power",
        needs(Scope.READINGS_READ, personal=("consumption",)),
        dependencies={"listing": Provide(listing_of(POWER_COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def power(request: ApiRequest, listing: NamedDependency[Listing]) -> Page[ModulePower]:
        """Power now of modules, W or VA as each meter gives it; takes the list's columns, and power and power_kind."""
        found = fleet.select(listing)
        rows = [ModulePower(*row) for row in zip(*(found.values(name) for name in _POWER), strict=True)]
        gate.saw(request, [f"module:{row.serial}" for row in rows])
        return Page(rows, found.total, listing.offset, listing.limit)

    @reading("/v1/modules/{serial:str}", needs(Scope.FLEET_READ), sync_to_thread=True)
    def one(serial: SerialInPath) -> Response[ModuleFacts]:
        """A module: what the registry knows of it and how it is doing now, without what is personal."""
        return answer_of(fleet, operations.one(serial))

    @reading(
        "/v1/modules/{serial:str}/personal",
        needs(Scope.PERSONAL_READ, personal=_PERSONAL),
        sync_to_thread=True,
    )
    def personal(request: ApiRequest, serial: SerialInPath) -> ModulePersonal:
        """Who is behind a module: meter, address, delivery point, holder."""
        supplies = operations.supplies(serial)
        places = sites.some([supply.site_id for supply in supplies if supply.site_id is not None])
        channels = []
        for supply in supplies:
            place = places.get(supply.site_id or 0)
            channels.append(
                ChannelPersonal(
                    supply.channel,
                    supply.meter_serial,
                    supply.holder,
                    supply.level.name.lower(),  # type: ignore[arg-type]
                    supply.site_id,
                    place.city if place else None,
                    place.street if place else None,
                    place.postcode if place else None,
                    place.delivery_point if place else None,
                )
            )
        gate.saw(request, [f"module:{serial}", *(f"site:{number}" for number in places)])
        return ModulePersonal(serial, supplies[0].module_meter_serial if supplies else None, channels)

    @editing("/v1/modules/{serial:str}", needs(Scope.FLEET_WRITE), sync_to_thread=True)
    def edit(
        request: ApiRequest, serial: SerialInPath, data: JSONBody[ModuleEdit], if_match: IfMatch = None
    ) -> Response[ModuleFacts]:
        """Change a module's note, whether its readings are wanted, or its period (a birth may set that again)."""
        version = version_of(if_match)
        values = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
        if not values:
            raise OperatorInputError("nothing to change: give note, collection or period_ms")
        return answer_of(fleet, operations.edit(request.user.name, serial, version, values))

    @putting("/v1/modules/{serial:str}/tags", needs(Scope.FLEET_WRITE), sync_to_thread=True)
    def set_tags(
        request: ApiRequest, serial: SerialInPath, data: JSONBody[TagSet], if_match: IfMatch = None
    ) -> Response[ModuleFacts]:
        """Put these tags in place of those a module has."""
        return answer_of(fleet, operations.set_tags(request.user.name, serial, version_of(if_match), data.tags))

    @reading("/v1/tags", needs(Scope.FLEET_READ), sync_to_thread=True)
    def tags() -> list[Count]:
        """Every tag, and how many modules have it."""
        return [Count(name, count) for name, count in sorted(fleet.table.tags.counts().items())]

    @reading("/v1/cities", needs(Scope.FLEET_READ), sync_to_thread=True)
    def cities() -> list[Count]:
        """Every city in which a module is paired, and how many are."""
        return [Count(name, count) for name, count in sorted(fleet.table.city.counts().items())]

    @reading("/v1/search", needs(Scope.PERSONAL_READ, personal=_PERSONAL), sync_to_thread=True)
    def search(request: ApiRequest, question: Question) -> SearchAnswer:
        """Find modules and sites by a part of a serial, meter, delivery point, street, postcode, city, site or holder.

        Case, accents and doubled blanks do not matter.
        """
        hits = fleet.state.index.find(question)
        found = _hits(fleet, operations, sites, hits)
        subjects = [f"module:{hit.serial}" if hit.serial else f"site:{hit.site_id}" for hit in found]
        gate.saw(request, subjects)
        return SearchAnswer(found, len(hits) == MOST_RESULTS)

    return [modules, power, one, personal, edit, set_tags, tags, cities, search]


def answer_of(fleet: Fleet, module: ModuleFile, status: int = 200) -> Response[ModuleFacts]:
    """One module as the API answers with it."""
    found: dict[str, Any] = {
        name: getattr(module, name) for name in ModuleFacts.__struct_fields__ if name not in {"channels", "live"}
    }
    found["tags"] = list(module.tags)
    channels = [ChannelNow(one.channel, one.site_id, one.city, one.zone, one.from_us) for one in module.channels]
    facts = ModuleFacts(**found, channels=channels, live=_live(fleet, module.serial))
    return Response(facts, status_code=status, headers={"ETag": etag(module.version)})


def _live(fleet: Fleet, serial: str) -> LiveNow | None:
    found = fleet.select_serials([serial])
    if not found.total:
        return None
    return LiveNow(*(found.values(name)[0] for name in _LIVE))


def _hits(fleet: Fleet, operations: FleetOperations, sites: SiteEdits, hits: Any) -> list[SearchHit]:
    serials = [hit.serial for hit in hits if hit.serial]
    selected: Selection = fleet.select_serials(serials)
    states = dict(zip(selected.values("serial"), selected.values("state"), strict=True))
    places = sites.some([hit.site_id for hit in hits if hit.site_id])
    supplies = operations.supplies_of_many(serials)
    found = []
    for hit in hits:
        place = places.get(hit.site_id or 0)
        supply = supplies.get(hit.serial or "")
        found.append(
            SearchHit(
                hit.attribute.name.lower(),
                hit.fit.name.lower(),
                hit.serial,
                states.get(hit.serial),
                hit.site_id,
                place.city if place else None,
                place.street if place else None,
                place.postcode if place else None,
                place.delivery_point if place else None,
                (supply.meter_serial or supply.module_meter_serial) if supply else None,
                supply.holder if supply else None,
            )
        )
    return found
