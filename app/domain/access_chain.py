"""The chain of the access log: what an entry is, and how each is bound to the one before (docs/privacy.md)."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

# "The hash before" of the first entry.
BEGINNING = bytes(32)
# The subject of an entry that came back from a backup without whom it names: they were erased since. Its hash can not
# be computed any more.
ERASED_SUBJECT = "erased"


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


class ErasedEntries(NamedTuple):
    """How many entries a restore has brought back without their subject, and what else they said (`UnnamedEntries`)."""

    # Hides the method of tuples, which nobody needs here.
    count: int  # type: ignore[assignment]
    sha256: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Anchor:
    """What is kept of the chain outside the database, so that a cut-off tail is found.

    `committed` is in the database for certain. `pending` is what the end would be if a transaction, whose outcome
    was not known yet, came through. `breaks` were found by hubs at their start, `notes` are restores, `erased` is what
    the last of them brought back without its subject.
    """

    committed: ChainEnd
    pending: ChainEnd | None = None
    breaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    erased: ErasedEntries | None = None


class UnnamedEntries:
    """Takes the entries without a subject in their order; every other field of theirs counts, and their two hashes."""

    def __init__(self) -> None:
        self._count = 0
        self._sha256 = BEGINNING

    @property
    def so_far(self) -> ErasedEntries:
        """Those that were taken."""
        return ErasedEntries(self._count, self._sha256)

    def take(self, entry: Entry) -> bool:
        """Take one whose hash can not be computed any more; whether it is one."""
        if entry.look.subject != ERASED_SUBJECT or digest(entry.number, entry.look, entry.previous) == entry.sha256:
            return False
        self._count += 1
        self._sha256 = digest(entry.number, entry.look, self._sha256 + entry.previous + entry.sha256)
        return True


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
