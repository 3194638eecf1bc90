"""Events of a module and of the fleet, and how many there were each day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Annotated

from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import PathParameter, QueryParameter

from app.api.access import needs
from app.api.ranges import From, To
from app.api.routing import reading
from app.domain.errors import OperatorInputError
from app.domain.events import EventKind
from app.domain.people import Scope
from app.protocol.api.events import DaysAnswer, DayShape, EventsAnswer, EventShape, KindCount
from app.protocol.api.texts import LATEST_US
from app.stores.events.reader import EventReader, Wanted
from app.stores.registry.faults import UnknownNameError

MOST_EVENTS = 1_000
MOST_DAYS = 400

Serial = Annotated[
    str,
    PathParameter(min_length=1, max_length=64, description="the module's serial", examples=[Example(value="WD00001")]),
]
Kinds = Annotated[
    list[EventKind] | None,
    QueryParameter(
        name="kind",
        max_items=20,
        description="only these kinds, repeated",
        examples=[Example(value=["connected", "disconnected"])],
    ),
]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST_EVENTS, description="how many events to answer with, at most")]
Cursor = Annotated[str, QueryParameter(max_length=40, description="the cursor of the page before")]
Day = Annotated[dt.date, QueryParameter(description="YYYY-MM-DD", examples=[Example(value="2027-01-15")])]


def events_routes(reader: EventReader, is_module: Callable[[str], bool], zone: str) -> list[HTTPRouteHandler]:
    """Technical facts of modules; there is nothing personal in an event."""

    def answer(wanted: Wanted) -> EventsAnswer:
        page = reader.page(wanted)
        items = [
            EventShape(one.id, one.module, one.time_us, one.kind, dict(one.details), one.count) for one in page.events
        ]
        return EventsAnswer(items, page.cursor)

    @reading("/v1/events", needs(Scope.FLEET_READ), sync_to_thread=True)
    def events(
        kinds: Kinds = None, from_us: From = 0, to_us: To = LATEST_US, limit: Limit = 100, cursor: Cursor = ""
    ) -> EventsAnswer:
        """Events of all modules, newest first; they appear here within a second or so."""
        return answer(Wanted(None, tuple(kinds or ()), from_us, to_us, limit, cursor))

    @reading("/v1/modules/{serial:str}/events", needs(Scope.FLEET_READ), sync_to_thread=True)
    def events_of_module(
        serial: Serial,
        kinds: Kinds = None,
        from_us: From = 0,
        to_us: To = LATEST_US,
        limit: Limit = 100,
        cursor: Cursor = "",
    ) -> EventsAnswer:
        """Events of a module, newest first: its time line."""
        if not is_module(serial) and not reader.knows(serial):
            raise UnknownNameError("module", serial)
        return answer(Wanted(serial, tuple(kinds or ()), from_us, to_us, limit, cursor))

    @reading("/v1/events/daily", needs(Scope.FLEET_READ), sync_to_thread=True)
    def daily(first: Day, last: Day) -> DaysAnswer:
        """Events of each day by kind, and of how many modules: connections a day, unique connections a day."""
        if not 0 <= (last - first).days < MOST_DAYS:
            raise OperatorInputError(f"the last day is not before the first, and {MOST_DAYS} days are answered at most")
        days: dict[dt.date, dict[str, KindCount]] = {}
        for one in reader.days(first, last):
            days.setdefault(one.day, {})[one.kind] = KindCount(one.events, one.modules)
        return DaysAnswer(zone, [DayShape(day.isoformat(), kinds) for day, kinds in days.items()])

    return [events, events_of_module, daily]
