"""Pairings: which site's meter each channel of a module reads, and for whom."""

from __future__ import annotations

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from app.api.access import ApiRequest, Gate, needs
from app.api.routes.modules import SerialInPath, answer_of
from app.api.routing import making, reading
from app.domain.errors import OperatorInputError
from app.domain.keys import CollectionLevel
from app.domain.people import Scope
from app.protocol.api.fleet import HolderChange, MeterChange, ModuleFacts, PairingRow, PairRequest, UnpairRequest
from app.services.fleet.fleet import Fleet
from app.services.fleet.operations import FleetOperations, When
from app.stores.registry.records import PairedAs


def pairing_routes(fleet: Fleet, operations: FleetOperations, gate: Gate) -> list[HTTPRouteHandler]:
    """Every change begins a new supply period, so that readings before it stay whose they were."""
    allowed = needs(Scope.FLEET_WRITE)

    @reading(
        "/v1/modules/{serial:str}/pairings",
        needs(Scope.PERSONAL_READ, personal=("meter_serial",)),
        sync_to_thread=True,
    )
    def pairings(request: ApiRequest, serial: SerialInPath) -> list[PairingRow]:
        """The pairings of a module's channels, by channel, oldest first."""
        found = operations.pairings(serial)
        gate.saw(
            request, [f"module:{serial}", *(f"site:{number}" for number in sorted({row.site_id for row in found}))]
        )
        return [
            PairingRow(row.channel, row.site_id, row.city, row.meter_serial, row.from_us, row.to_us) for row in found
        ]

    @making("/v1/modules/{serial:str}/pair", allowed, sync_to_thread=True, status_code=200)
    def pair(request: ApiRequest, serial: SerialInPath, data: JSONBody[PairRequest]) -> Response[ModuleFacts]:
        """Pair a channel that is not paired with a site."""
        _one_holder(data.holder, new_holder=data.new_holder)
        paired = PairedAs(data.site_id, _level(data.level), data.meter_serial, data.holder)
        when = When(data.channel, data.at_us)
        module = operations.pair(request.user.name, serial, when, paired, new_holder=data.new_holder)
        return answer_of(fleet, module)

    @making("/v1/modules/{serial:str}/unpair", allowed, sync_to_thread=True, status_code=200)
    def unpair(request: ApiRequest, serial: SerialInPath, data: JSONBody[UnpairRequest]) -> Response[ModuleFacts]:
        """End a channel's pairing."""
        when = When(data.channel, data.at_us)
        return answer_of(fleet, operations.unpair(request.user.name, serial, when, _level(data.level)))

    @making("/v1/modules/{serial:str}/change-meter", allowed, sync_to_thread=True, status_code=200)
    def change_meter(request: ApiRequest, serial: SerialInPath, data: JSONBody[MeterChange]) -> Response[ModuleFacts]:
        """The site has a new meter, read by the same channel for the same holder."""
        when = When(data.channel, data.at_us)
        return answer_of(fleet, operations.change_meter(request.user.name, serial, when, data.meter_serial))

    @making("/v1/modules/{serial:str}/change-holder", allowed, sync_to_thread=True, status_code=200)
    def change_holder(request: ApiRequest, serial: SerialInPath, data: JSONBody[HolderChange]) -> Response[ModuleFacts]:
        """The site has a new holder, with a consent of their own; without one, nobody known."""
        _one_holder(data.holder, new_holder=data.new_holder)
        module = operations.change_holder(
            request.user.name,
            serial,
            When(data.channel, data.at_us),
            holder=data.holder,
            new_holder=data.new_holder,
            level=_level(data.level),
        )
        return answer_of(fleet, module)

    return [pairings, pair, unpair, change_meter, change_holder]


def _level(word: str) -> CollectionLevel:
    return CollectionLevel[word.upper()]


def _one_holder(holder: str | None, *, new_holder: bool) -> None:
    if holder is not None and new_holder:
        raise OperatorInputError("give holder or new_holder, not both")
