"""Sites: the places that are supplied."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from app.api.access import ApiRequest, Gate, needs
from app.api.lists import listing_of, page_of
from app.api.routing import editing, making, reading, removing
from app.api.versions import IfMatch, etag, version_of
from app.domain.errors import OperatorInputError
from app.domain.listing import Column, Listing
from app.domain.people import Scope
from app.protocol.api.common import Page
from app.protocol.api.sites import NewSite, Site, SiteEdit, SiteVersion
from app.stores.registry import records
from app.stores.registry.site_edits import SiteEdits, SiteFile

COLUMNS = {
    "id": Column(int),
    "city": Column(str),
    "zone": Column(str),
    "street": Column(str),
    "postcode": Column(str),
    "delivery_point": Column(str),
    "created_us": Column(int),
    "modules": Column(int),
    "version": Column(int),
}
_PERSONAL = ("street", "postcode", "delivery_point")
_OPTIONAL = ("street", "postcode", "delivery_point")

Number = Annotated[int, PathParameter(ge=1, le=2**62, description="the site's number", examples=[Example(value=1)])]


def site_routes(sites: SiteEdits, gate: Gate) -> list[HTTPRouteHandler]:
    """Reading a site is personal; writing one answers with its number and version only."""
    personal = needs(Scope.PERSONAL_READ, personal=_PERSONAL)
    allowed = needs(Scope.FLEET_WRITE)

    @reading(
        "/v1/sites",
        personal,
        dependencies={"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def every(request: ApiRequest, listing: NamedDependency[Listing]) -> Page[Site]:
        """The sites, by number unless `sort` says otherwise."""
        found = sites.page(listing)
        gate.saw(request, [f"site:{row.id}" for row in found.rows])
        return page_of(found, _shape)

    @reading("/v1/sites/{number:int}", personal, sync_to_thread=True)
    def one(request: ApiRequest, number: Number) -> Response[Site]:
        """A site with its address."""
        found = sites.one(number)
        gate.saw(request, [f"site:{number}"])
        return Response(_shape(found), headers={"ETag": etag(found.version)})

    @making("/v1/sites", allowed, sync_to_thread=True)
    def create(request: ApiRequest, data: JSONBody[NewSite]) -> Response[SiteVersion]:
        """Register a site."""
        site = records.NewSite(
            data.city, data.zone, data.street or None, data.postcode or None, data.delivery_point or None
        )
        return _answer(sites.create(request.user.name, site), 201)

    @editing("/v1/sites/{number:int}", allowed, sync_to_thread=True)
    def edit(
        request: ApiRequest, number: Number, data: JSONBody[SiteEdit], if_match: IfMatch = None
    ) -> Response[SiteVersion]:
        """Correct a site; its readings, and those of its past, count for the city it says then."""
        version = version_of(if_match)
        values = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
        if not values:
            raise OperatorInputError(f"nothing to change: give any of {', '.join(SiteEdit.__struct_fields__)}")
        values |= {name: values[name] or None for name in _OPTIONAL if name in values}
        return _answer(sites.edit(request.user.name, number, version, values))

    @removing("/v1/sites/{number:int}", allowed, sync_to_thread=True)
    def delete(request: ApiRequest, number: Number, if_match: IfMatch = None) -> None:
        """Remove a site that never had a module; 409 for any other."""
        sites.delete(request.user.name, number, version_of(if_match))

    return [every, one, create, edit, delete]


def _shape(site: SiteFile) -> Site:
    return Site(*(getattr(site, name) for name in Site.__struct_fields__))


def _answer(site: SiteFile, status: int = 200) -> Response[SiteVersion]:
    shape = SiteVersion(site.id, site.city, site.zone, site.version)
    return Response(shape, status_code=status, headers={"ETag": etag(site.version)})
