"""Where everything on a module or a person is."""

from __future__ import annotations

from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import PathParameter

from app.api.access import ApiRequest, Gate, needs
from app.api.routing import reading
from app.domain import data_map as domain
from app.domain.people import Scope
from app.protocol.api.data_map import DataMap, DataPlace, HeldAt, HeldOf
from app.services.data_map import data_map as service

Serial = Annotated[
    str,
    PathParameter(min_length=1, max_length=64, description="the module's serial", examples=[Example(value="WD00001")]),
]
Token = Annotated[
    str,
    PathParameter(
        min_length=1, max_length=12, description="the holder's token", examples=[Example(value="c-7K2M9QX4TB")]
    ),
]
HOLDINGS = ("holdings",)


def data_map_routes(data_map: service.DataMap, gate: Gate) -> list[HTTPRouteHandler]:
    """That somebody's data are at a place is personal too: it says that there are some."""

    @reading("/v1/data-map", needs(Scope.PRIVACY), sync_to_thread=True)
    def places() -> DataMap:
        """Every place that can hold something derived from a module or a person: what, why, how long, how erased."""
        rows = [
            DataPlace(
                place.name,
                place.holds,
                place.why,
                data_map.retention(place),
                [about.value for about in place.about],
                place.encrypted,
                place.table,
                list(place.paths),
                place.erased_with,
                place.not_erased,
            )
            for place in data_map.places
        ]
        return DataMap(rows, data_map.undeclared())

    def held(subject: domain.DataSubject) -> HeldOf:
        return HeldOf(
            subject.words,
            [HeldAt(place.name, held.count, held.size_bytes, held.note) for place, held in data_map.find(subject)],
        )

    @reading("/v1/data-map/modules/{serial:str}", needs(Scope.PRIVACY, personal=HOLDINGS), sync_to_thread=True)
    def of_module(request: ApiRequest, serial: Serial) -> HeldOf:
        """What every place holds of a module."""
        subject = data_map.module(serial)
        gate.saw(request, [subject.words])
        return held(subject)

    @reading("/v1/data-map/holders/{token:str}", needs(Scope.PRIVACY, personal=HOLDINGS), sync_to_thread=True)
    def of_holder(request: ApiRequest, token: Token) -> HeldOf:
        """What every place holds of a holder: their supply periods, and what their modules sent in these."""
        subject = data_map.holder(token)
        gate.saw(request, [subject.words])
        return held(subject)

    return [places, of_module, of_holder]
