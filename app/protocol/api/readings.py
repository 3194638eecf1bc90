"""Readings, buckets and completeness as the API answers with them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from app.protocol.api.common import TimeUs
from app.protocol.api.texts import SerialTold


class ReadingsAnswer(msgspec.Struct, frozen=True):
    """Rows of a module's readings or buckets, rising by time. Each row has a value for each column, null if unknown.

    `time` is UTC microseconds since 1970; `power` is what `power_kind` says (W or VA, never mixed); indexes are Wh.
    """

    serial: SerialTold
    channel: Annotated[int, msgspec.Meta(examples=[1])]
    every: Annotated[str, msgspec.Meta(examples=["raw"])]
    columns: Annotated[list[str], msgspec.Meta(examples=[["time", "power", "power_kind", "drawn_wh"]])]
    rows: Annotated[list[list[Any]], msgspec.Meta(examples=[[[1800000000000000, 1840.0, "VA", 12345678]]])]


class CompletenessBucket(msgspec.Struct, frozen=True):
    """What was due and what came in one bucket; `lost` is null where the module numbers nothing."""

    time_us: TimeUs
    expected: int | None
    received: int
    late: int
    duplicate: int
    lost: int | None
    reasons: list[str]


class CompletenessAnswer(msgspec.Struct, frozen=True):
    """Completeness of a range: `share` is what came of what was due, at most 1, null where nothing was due."""

    serial: SerialTold
    channel: Annotated[int, msgspec.Meta(examples=[1])]
    every: Annotated[str, msgspec.Meta(examples=["10m"])]
    share: float | None
    expected: int
    received: int
    late: int
    duplicate: int
    lost: int
    reasons: list[str]
    buckets: list[CompletenessBucket]


class GroupPowerAnswer(msgspec.Struct, frozen=True):
    """Power of the fleet or a city, a row for each 10 s in which any module was heard.

    `power_w` is the sum of index differences over time (so W, also for meters that show VA) of `counted` modules. It is
    null where fewer than `least_homes` counted and the asker may not see a home's consumption.
    """

    city: str | None
    least_homes: int
    time_us: list[int]
    reporting: list[int]
    counted: list[int]
    power_w: list[float | None]
