"""The access log as auditors read it."""

from __future__ import annotations

import msgspec

from app.protocol.api.common import TimeUs


class AccessEntryInfo(msgspec.Struct, frozen=True):
    """Who read which attributes of whom and why, in the quarter of an hour that began at `quarter_us`.

    `count` is 1 for the first look. When it was repeated, an entry of its own follows later that says how often it was
    looked at in all; of several such entries the newest holds.
    """

    number: int
    quarter_us: TimeUs
    at_us: TimeUs
    operator: str
    subject: str
    attributes: list[str]
    purpose: str
    ticket: str
    count: int
    # Hexadecimal.
    sha256: str


class VerificationInfo(msgspec.Struct, frozen=True):
    """What a look through the whole chain found; it is sound when there are no faults."""

    sound: bool
    entries: int
    first_us: int | None
    last_us: int | None
    # The newest entry's number and hash: to be kept elsewhere, it shows later whether all was rewritten.
    head_number: int
    head_sha256: str
    faults: list[str]
    notes: list[str]
    # Came back from a backup without their subject, who was erased; nothing else of them was changed.
    erased_entries: int = 0
