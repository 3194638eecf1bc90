"""Devices of others that were heard: the list, and what is done with them."""

from __future__ import annotations

from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from app.api.access import ApiRequest, needs
from app.api.lists import listing_of, page_of
from app.api.routing import making, reading
from app.domain.listing import Listing
from app.domain.people import Scope
from app.protocol.api.common import Page
from app.protocol.api.discovered import (
    AdoptRequest,
    ChosenDevices,
    DeviceLeftOut,
    DevicesReport,
    DiscoveredDevice,
    MovedDevice,
)
from app.services.discovered import Discovered
from app.stores.registry.foreign_devices import COLUMNS, DeviceRecord, DevicesMoved


def discovered_routes(discovered: Discovered) -> list[HTTPRouteHandler]:
    """Who speaks on the broker in a dialect of others, and which of them are modules."""
    allowed = needs(Scope.FLEET_WRITE)

    @reading(
        "/v1/discovered",
        needs(Scope.FLEET_READ),
        dependencies={"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def every(listing: NamedDependency[Listing]) -> Page[DiscoveredDevice]:
        """Devices of others that were heard, adopted and ignored ones too; the newest first."""
        return page_of(discovered.page(listing), _shape)

    @making("/v1/discovered/adopt", allowed, sync_to_thread=True, status_code=200)
    def adopt(request: ApiRequest, data: JSONBody[AdoptRequest]) -> DevicesReport:
        """Make devices modules, up to 1,000 at once; their readings are kept from then on."""
        ids = discovered.chosen(data.ids, data.filter)
        return _report(discovered.adopt(request.user.name, ids, data.site_id, data.tags))

    @making("/v1/discovered/ignore", allowed, sync_to_thread=True, status_code=200)
    def ignore(request: ApiRequest, data: JSONBody[ChosenDevices]) -> DevicesReport:
        """Say that devices are none of ours: nothing is learned of them any more, and nothing kept.

        One that was adopted, named by its number, stays a module without new readings until it is adopted again.
        """
        ids = discovered.chosen(data.ids, data.filter)
        return _report(discovered.ignore(request.user.name, ids, named=data.ids is not None))

    @making("/v1/discovered/restore", allowed, sync_to_thread=True, status_code=200)
    def restore(request: ApiRequest, data: JSONBody[ChosenDevices]) -> DevicesReport:
        """Take ignored devices back among the discovered ones."""
        return _report(discovered.restore(request.user.name, discovered.chosen(data.ids, data.filter)))

    return [every, adopt, ignore, restore]


def _report(done: DevicesMoved) -> DevicesReport:
    return DevicesReport(
        [MovedDevice(device.id, device.dialect, device.device, device.serial) for device in done.moved],
        [DeviceLeftOut(number, reason) for number, reason in done.left_out],
    )


def _shape(device: DeviceRecord) -> DiscoveredDevice:
    facts = device.facts

    def text(name: str) -> str | None:
        value = facts.get(name)
        return value if isinstance(value, str) else None

    def number(name: str) -> int | None:
        value = facts.get(name)
        return value if isinstance(value, int) else None

    return DiscoveredDevice(
        id=device.id,
        dialect=device.dialect,
        device=device.device,
        state=device.state.value,
        serial=device.serial,
        name=text("name"),
        maker=text("maker"),
        model=text("model"),
        firmware=text("firmware"),
        hardware=text("hardware"),
        newer_firmware=text("newer_firmware"),
        meter_kind=text("meter_kind"),
        channel=number("channel"),
        rssi_dbm=number("rssi_dbm"),
        link_quality=number("link_quality"),
        period_ms=number("period_ms"),
        power_kind="W" if device.power_kind == "W" else "VA" if device.power_kind == "VA" else None,
        messages=device.messages,
        first_seen_us=device.first_seen_us,
        last_seen_us=device.last_seen_us,
        changed_by=device.changed_by,
        changed_us=device.changed_us,
    )
