"""The chain of the access log: what an entry is, and how each is bound to the one before (docs/privacy.md)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

# "The hash before" of the first entry.
BEGINNING = bytes(32)


class Look(NamedTuple):
    """What an entry says. Times are UTC microseconds; `subject` is kind:name, `attributes` names between commas."""

    quarter_us: int
    at_us: int
    operator: str
    subject: str
    attributes: str
    purpose: str
    ticket: str
    # Hides the method of tuples, which nobody needs here.
    count: int  # type: ignore[assignment]


class ChainEnd(NamedTuple):
    """Number and hash of the newest entry; 0 and `BEGINNING` before the first."""

    number: int = 0
    sha256: bytes = BEGINNING


class Entry(NamedTuple):
    """An entry as it is stored."""

    number: int
    look: Look
    previous: bytes
    sha256: bytes

    @property
    def end(self) -> ChainEnd:
        """The chain's end when this is its newest entry."""
        return ChainEnd(self.number, self.sha256)


@dataclasses.dataclass(frozen=True, slots=True)
class Anchor:
    """What is kept of the chain outside the database, so that a cut-off tail is found.

    `committed` is in the database for certain. `pending` is what the end would be if a transaction, whose outcome
    was not known yet, came through. `breaks` were found by hubs at their start, `notes` are restores.
    """

    committed: ChainEnd
    pending: ChainEnd | None = None
    breaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def digest(number: int, look: Look, previous: bytes) -> bytes:
    """SHA-256 of the hash before, then each field as `length:bytes,`, so that no two entries are the same bytes."""
    sha256 = hashlib.sha256(previous)
    for field in (number, *look):
        text = str(field).encode("utf-8", "surrogatepass")
        sha256.update(b"%d:%b," % (len(text), text))
    return sha256.digest()


def chained(end: ChainEnd, looks: Sequence[Look]) -> list[Entry]:
    """Looks as the entries that follow an end."""
    entries = []
    number, previous = end
    for look in looks:
        number += 1
        sha256 = digest(number, look, previous)
        entries.append(Entry(number, look, previous, sha256))
        previous = sha256
    return entries
