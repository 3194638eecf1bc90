"""Events of modules as the API answers them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from app.protocol.api.common import TimeUs


class EventShape(msgspec.Struct, frozen=True):
    """What happened to a module. `count` equal log lines of one second are one row, at the time of the newest."""

    id: int
    module: str
    time_us: TimeUs
    kind: Annotated[str, msgspec.Meta(examples=["connected"])]
    details: Annotated[dict[str, Any], msgspec.Meta(description="by kind, see docs/operating.md")]
    count: int = 1


class EventsAnswer(msgspec.Struct, frozen=True):
    """Events, newest first; with a `cursor` there are more: ask again with it."""

    items: list[EventShape]
    cursor: str | None


class KindCount(msgspec.Struct, frozen=True):
    """Events of a kind in a day, and how many different modules they were of."""

    events: int
    modules: int


class DayShape(msgspec.Struct, frozen=True):
    """A civil day's events, by kind."""

    day: Annotated[str, msgspec.Meta(description="YYYY-MM-DD in the hub's zone", examples=["2026-11-25"])]
    kinds: dict[str, KindCount]


class DaysAnswer(msgspec.Struct, frozen=True):
    """Days with events, rising; a day without any is left out."""

    zone: str
    days: list[DayShape]
