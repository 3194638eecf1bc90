"""Shapes of refused messages on the API."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from app.protocol.api.common import TimeUs

MOST_NUMBERS = 1000
LARGEST_NUMBER = 2**53
Number = Annotated[int, Meta(ge=1, le=LARGEST_NUMBER)]
Filters = Annotated[
    list[Annotated[str, Meta(max_length=300)]],
    Meta(max_length=20, description="as in lists: column:comparison:value", examples=[["reason:eq:unknown_module"]]),
]
UpTo = Annotated[
    int, Meta(ge=1, le=LARGEST_NUMBER, description="only messages up to this number: the newest that was looked at")
]


class RefusedInfo(msgspec.Struct, frozen=True):
    """A refused message without its payload. `not_replayable` says why it can not be replayed, null when it can."""

    id: int
    module: str
    kind: str
    reason: str
    detail: str
    arrival_us: TimeUs
    size: Annotated[int, Meta(description="bytes of the payload as it came")]
    cut: Annotated[bool, Meta(description="only the first 4096 bytes were kept")]
    not_replayable: str | None


class RefusedPayload(msgspec.Struct, frozen=True):
    """A refused message with what was kept of its payload; `text` where it is UTF-8."""

    message: RefusedInfo
    payload_base64: str
    text: str | None


class ReasonCount(msgspec.Struct, frozen=True):
    """How many refused messages of a reason are kept."""

    reason: str
    count: int


class ReplayedInfo(msgspec.Struct, frozen=True):
    """What became of a message: taken, partly, refused, not_replayable; why, where it stayed."""

    state: str
    reason: str
    detail: str


class ReplayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which messages: these `ids`, or those that meet every filter."""

    ids: Annotated[list[Number], Meta(min_length=1, max_length=MOST_NUMBERS)] | None = None
    filter: Filters | None = None
    up_to: UpTo = LARGEST_NUMBER


class ReplayAnswer(msgspec.Struct, frozen=True):
    """How many were taken, partly taken, refused again (by new reason) and not replayable; `more` are left."""

    taken: int
    partly: int
    refused: int
    not_replayable: int
    reasons: dict[str, int]
    more: bool


class DropBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which messages to forget; nothing is dropped unless they are `expected_count` many."""

    filter: Filters
    expected_count: Annotated[int, Meta(ge=0, le=LARGEST_NUMBER)]
    up_to: UpTo = LARGEST_NUMBER


class DropAnswer(msgspec.Struct, frozen=True):
    """How many were dropped."""

    dropped: int
