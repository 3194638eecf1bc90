"""The access log: who read which attributes of whom, and why."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence

from app.domain.access_chain import Anchor, ChainEnd, Look, UnnamedEntries
from app.domain.errors import BugError, WattdeckError
from app.domain.people import Principal, Purpose
from app.stores.access_head import AccessHead, AccessHeadDamaged
from app.stores.registry.access_entries import AccessEntries

log = logging.getLogger(__name__)

QUARTER_US = 15 * 60 * 1_000_000
# 300 bytes each: 30 MB. Where one is forgotten, the next look within the quarter is one more entry.
MOST_REMEMBERED = 100_000
# What the columns hold.
_LONGEST_SUBJECT = 200
_LONGEST_ATTRIBUTES = 500


@dataclasses.dataclass(slots=True)
class AccessCounters:
    """Since the start."""

    # Entries written, looks that were counted only, looks that were refused because they could not be written.
    entries: int = 0
    repeats: int = 0
    refused: int = 0


@dataclasses.dataclass(slots=True)
class _Repeats:
    """How often a look was seen in its quarter, when last, and how many the log knows of."""

    seen: int
    last_us: int
    written: int


class AccessLog:
    """The methods block on the database and on the disk; any thread may call. Call `start` first and `stop` last."""

    def __init__(
        self,
        entries: AccessEntries,
        head: AccessHead,
        now_us: Callable[[], int],
        *,
        most_remembered: int = MOST_REMEMBERED,
    ) -> None:
        self.counters = AccessCounters()
        self._entries = entries
        self._head = head
        self._now_us = now_us
        self._most_remembered = most_remembered
        self._anchor = Anchor(ChainEnd())
        # Looks without count and time -> how often.
        self._remembered: dict[Look, _Repeats] = {}
        # The second is taken before the first where both are.
        self._remembering = threading.Lock()
        self._writing = threading.Lock()

    @property
    def breaks(self) -> int:
        """How many breaks of the chain hubs have found at their start."""
        return len(self._anchor.breaks)

    @property
    def remembered(self) -> int:
        """Looks of this quarter of an hour that are known to be in the log."""
        return len(self._remembered)

    def start(self) -> None:
        """Compare the end of the log with what is kept of it beside the database, and go on from there.

        A difference is said in the log of the hub and kept; the hub serves all the same.
        """
        end = self._entries.end()
        found: tuple[str, ...] = ()
        try:
            kept = self._head.read()
        except AccessHeadDamaged:
            kept, found = None, (f"access-log.head could not be read, the log ended with entry {end.number}",)
        if kept is None:
            if end.number and not found:
                found = (f"access-log.head was missing, the log ended with entry {end.number}",)
            kept = Anchor(end)
        elif end not in {kept.committed, kept.pending}:
            found = (_not_ours(end, kept.committed),)
        for text in found:
            log.error("the access log was changed from outside: %s; see ./run verify-log", text)
        self._anchor = dataclasses.replace(kept, committed=end, pending=None, breaks=(*kept.breaks, *found))
        self._head.write(self._anchor)
        now_us = self._now_us()
        looks = self._entries.looks_of(_quarter(now_us), self._most_remembered)
        self._remembered = {look: _Repeats(count, now_us, count) for look, count in looks.items()}

    def note(self, principal: Principal, purpose: Purpose, subjects: Sequence[str], attributes: Sequence[str]) -> None:
        """Durable on return. Raises EnvironmentFault when it can not be written: nothing may be shown then."""
        now_us = self._now_us()
        names = ",".join(sorted(set(attributes)))
        if len(names) > _LONGEST_ATTRIBUTES or any(len(subject) > _LONGEST_SUBJECT for subject in subjects):
            raise BugError("subjects or attributes do not fit into the access log")
        quarter_us = _quarter(now_us)
        looks = [
            Look(quarter_us, 0, principal.name, subject, names, purpose.code, purpose.ticket, 0)
            for subject in dict.fromkeys(subjects)
        ]
        if self._count(looks, now_us):
            return
        with self._writing:
            # Another thread may have written some of them meanwhile.
            with self._remembering:
                fresh = [look for look in looks if look not in self._remembered]
            try:
                self._forget(self._oldest(len(fresh)), also=[one._replace(at_us=now_us, count=1) for one in fresh])
            except WattdeckError:
                self.counters.refused += 1
                raise
            new = dict.fromkeys(fresh)
            with self._remembering:
                for look in fresh[-self._most_remembered :]:
                    self._remembered[look] = _Repeats(1, now_us, 1)
        self._count([look for look in looks if look not in new], now_us)

    def write_counts(self, *, all_quarters: bool = False) -> None:
        """Write how often looks were repeated in the quarters of an hour that are over, or (at the end) in each."""
        quarter_us = _quarter(self._now_us())
        with self._writing:
            with self._remembering:
                over = [look for look in self._remembered if all_quarters or look.quarter_us != quarter_us]
            self._forget(over)

    def stop(self) -> None:
        """Write the counts. What can not be written is lost, and said: the looks themselves are in the log."""
        try:
            self.write_counts(all_quarters=True)
        except WattdeckError as error:
            log.error("how often personal data were looked at again could not be written: %s", error)

    def _count(self, looks: Iterable[Look], now_us: int) -> bool:
        """Count looks that are in the log already; False, and nothing counted, when some are not."""
        with self._remembering:
            known = [self._remembered.get(look) for look in looks]
            if None in known:
                return False
            for repeats in known:
                assert repeats is not None
                repeats.seen += 1
                repeats.last_us = now_us
            self.counters.repeats += len(known)
        return True

    def _oldest(self, wanted: int) -> list[Look]:
        """The looks that must be forgotten for so many new ones."""
        over = len(self._remembered) + min(wanted, self._most_remembered) - self._most_remembered
        with self._remembering:
            return list(self._remembered)[: max(0, over)]

    def _forget(self, looks: Sequence[Look], also: Sequence[Look] = ()) -> None:
        """Write the counts of looks, and new looks with them; then forget the former."""
        with self._remembering:
            counts = _counts((look, self._remembered[look]) for look in looks)
        self._append([*also, *counts])
        with self._remembering:
            for count in counts:
                self._remembered[count._replace(at_us=0, count=0)].written = count.count
            for look in looks:
                # One that was repeated while we were writing stays for the next time.
                if self._remembered[look].seen == self._remembered[look].written:
                    del self._remembered[look]

    def _append(self, looks: list[Look]) -> None:
        if not looks:
            return
        end = self._entries.append(looks, self._announce)
        self.counters.entries += len(looks)
        self._anchor = dataclasses.replace(self._anchor, committed=end, pending=None)
        self._head.write(self._anchor)

    def _announce(self, before: ChainEnd, after: ChainEnd) -> None:
        """Keep beside the database what is about to be committed, so that a crash between both looks like one."""
        breaks = self._anchor.breaks
        if before not in {self._anchor.committed, self._anchor.pending}:
            text = _not_ours(before, self._anchor.committed)
            log.error("the access log was changed from outside: %s; see ./run verify-log", text)
            breaks = (*breaks, text)
        self._anchor = dataclasses.replace(self._anchor, committed=before, pending=after, breaks=breaks)
        self._head.write(self._anchor)


def anchor_restored(entries: AccessEntries, head: AccessHead, text: str, unnamed: Collection[int] = ()) -> None:
    """Take the end of a restored registry as the true one, and note why; `text` says when and from what.

    `unnamed`: numbers of the entries that the restore has left without their subject. Those that came without one have
    lost it at an earlier restore; what became of them in between is not known here, so that they are told apart.
    """
    taken, earlier = UnnamedEntries(), 0
    for entry in entries.each():
        if taken.take(entry) and entry.number not in unnamed:
            earlier += 1
    notes = [text]
    erased = taken.so_far if taken.so_far.count else None
    if erased is not None:
        notes.append(f"{erased.count - earlier} entries came back without whom they name, who was erased")
    if earlier:
        notes.append(f"{earlier} entries had no subject in the backup already: they are taken as they were there")
    head.write(Anchor(entries.end(), notes=tuple(notes), erased=erased))


def _counts(looks: Iterable[tuple[Look, _Repeats]]) -> list[Look]:
    return [
        look._replace(at_us=repeats.last_us, count=repeats.seen)
        for look, repeats in looks
        if repeats.seen > repeats.written
    ]


def _not_ours(found: ChainEnd, wanted: ChainEnd) -> str:
    return f"the log ended with entry {found.number}, which is not what was written last (entry {wanted.number})"


def _quarter(now_us: int) -> int:
    return now_us - now_us % QUARTER_US
