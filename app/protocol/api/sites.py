"""Sites and saved views as the API answers with them and takes them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.protocol.api.common import TimeUs
from app.protocol.api.texts import LINE, City, DeliveryPoint, Postcode, Street, Zone

Page = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9_.\-]*$", examples=["modules"])]
ViewName = Annotated[str, Meta(min_length=1, max_length=100, pattern=LINE)]
Definition = Annotated[
    dict[Annotated[str, Meta(max_length=100)], Any],
    Meta(
        description="the console's to understand, 20,000 bytes at most",
        examples=[{"filter": ["state:eq:silent"], "sort": "-age_s", "columns": ["serial", "city", "age_s"]}],
    ),
]


class Site(msgspec.Struct, frozen=True):
    """A place that is supplied; `modules` are paired with it now."""

    id: int
    city: str
    zone: str
    street: str | None
    postcode: str | None
    delivery_point: str | None
    created_us: TimeUs
    modules: int
    version: int


class NewSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A place to be registered."""

    city: City
    zone: Zone = "Europe/Paris"
    street: Street | None = None
    postcode: Postcode | None = None
    delivery_point: DeliveryPoint | None = None


class SiteEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be corrected of a site; what is left out stays."""

    city: City | UnsetType = UNSET
    zone: Zone | UnsetType = UNSET
    street: Street | UnsetType | None = UNSET
    postcode: Postcode | UnsetType | None = UNSET
    delivery_point: DeliveryPoint | UnsetType | None = UNSET


class SiteVersion(msgspec.Struct, frozen=True):
    """A site that was made or changed, without what is personal of it."""

    id: int
    city: str
    zone: str
    version: int


class View(msgspec.Struct, frozen=True):
    """A saved view: filter, order and columns of a page. `owner` null: the console that started the hub."""

    id: int
    page: str
    name: str
    definition: dict[str, Any]
    shared: bool
    owner: str | None
    mine: bool
    version: int


class NewView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A view to be saved."""

    page: Page
    name: ViewName
    definition: Definition
    shared: bool = False


class ViewEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be changed of a view of one's own; what is left out stays."""

    name: ViewName | UnsetType = UNSET
    definition: Definition | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
