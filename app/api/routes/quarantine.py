"""Refused messages: look at them, replay them, drop them."""

from __future__ import annotations

import base64
from typing import Annotated

from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from app.api.access import ApiRequest, Gate, needs
from app.api.lists import listing_of, page_of
from app.api.routing import making, reading, removing
from app.domain.errors import OperatorInputError
from app.domain.listing import Listing, parse_listing
from app.domain.people import Scope
from app.ingest.quarantine_shelf import COLUMNS, RefusedFacts
from app.ingest.replay import ReplayState, why_not_replayable
from app.protocol.api.common import Page
from app.protocol.api.quarantine import (
    LARGEST_NUMBER,
    DropAnswer,
    DropBody,
    ReasonCount,
    RefusedInfo,
    RefusedPayload,
    ReplayAnswer,
    ReplayBody,
    ReplayedInfo,
)
from app.services.quarantine import QuarantineDesk

Number = Annotated[
    int, PathParameter(ge=1, le=LARGEST_NUMBER, description="number of a refused message", examples=[Example(value=1)])
]
_LISTING = {"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)}


def quarantine_routes(desk: QuarantineDesk, gate: Gate) -> list[HTTPRouteHandler]:
    """Everything about refused messages. A payload may be somebody's readings."""

    @reading("/v1/quarantine", needs(Scope.QUARANTINE), dependencies=_LISTING, sync_to_thread=True)
    def list_refused(listing: NamedDependency[Listing]) -> Page[RefusedInfo]:
        """Refused messages without their payloads, newest first unless sorted."""
        return page_of(desk.listed(listing), _info)

    @reading("/v1/quarantine/reasons", needs(Scope.QUARANTINE), sync_to_thread=True)
    def count_refused() -> list[ReasonCount]:
        """How many are kept of each reason, the most frequent first."""
        return [ReasonCount(reason, count) for reason, count in desk.counts().items()]

    @reading("/v1/quarantine/{number:int}", needs(Scope.QUARANTINE, personal=("payload",)), sync_to_thread=True)
    def one_refused(request: ApiRequest, number: Number) -> RefusedPayload:
        """One refused message with what was kept of its payload."""
        found = desk.message(number)
        gate.saw(request, [f"module:{found.facts.module}"])
        try:
            text = found.payload.decode()
        except UnicodeDecodeError:
            text = None
        return RefusedPayload(_info(found.facts), base64.b64encode(found.payload).decode(), text)

    @making("/v1/quarantine/{number:int}/replay", needs(Scope.QUARANTINE), status_code=200)
    async def replay_one(request: ApiRequest, number: Number) -> ReplayedInfo:
        """Send one through the border again, as of its arrival; what goes through is stored and leaves quarantine."""
        result = await desk.replay_one(request.user, number)
        return ReplayedInfo(result.state.value, result.reason, result.detail)

    @making("/v1/quarantine/replay", needs(Scope.QUARANTINE), status_code=200)
    async def replay_many(request: ApiRequest, data: JSONBody[ReplayBody]) -> ReplayAnswer:
        """Send many through the border again, the oldest first; ask again while the answer says `more`."""
        if (data.ids is None) == (data.filter is None):
            raise OperatorInputError("name either ids, or a filter (an empty one is every message)")
        if data.ids is not None:
            report = await desk.replay_many(request.user, sorted(set(data.ids)))
        else:
            report = await desk.replay_matching(request.user, _listing(data.filter or []), data.up_to)
        taken, partly, refused, not_replayable = (report.counts.get(state, 0) for state in ReplayState)
        return ReplayAnswer(taken, partly, refused, not_replayable, dict(report.refused), report.more)

    @removing("/v1/quarantine/{number:int}", needs(Scope.QUARANTINE), sync_to_thread=True)
    def drop_one(request: ApiRequest, number: Number) -> None:
        """Forget one for good."""
        desk.drop_one(request.user, number)

    @making("/v1/quarantine/drop", needs(Scope.QUARANTINE), sync_to_thread=True, status_code=200)
    def drop_many(request: ApiRequest, data: JSONBody[DropBody]) -> DropAnswer:
        """Forget many for good: those that meet the filters, when they are as many as expected."""
        return DropAnswer(desk.drop_matching(request.user, _listing(data.filter), data.up_to, data.expected_count))

    return [list_refused, count_refused, one_refused, replay_one, replay_many, drop_one, drop_many]


def _listing(filters: list[str]) -> Listing:
    return parse_listing(COLUMNS, offset=0, limit=1, sort="", filters=filters)


def _info(facts: RefusedFacts) -> RefusedInfo:
    return RefusedInfo(
        facts.id,
        facts.module,
        facts.kind,
        facts.reason,
        facts.detail,
        facts.arrival_us,
        facts.size,
        facts.cut,
        why_not_replayable(facts.kind, cut=facts.cut),
    )
