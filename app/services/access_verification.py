"""Reads the access log through and names every place where it was tampered with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from app.domain.access_chain import Anchor, ChainEnd, Entry, UnnamedEntries, digest
from app.stores.access_head import AccessHeadDamaged

# A log that somebody has rewritten is wrong everywhere; the first places tell as much as all.
MOST_FAULTS = 100


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What was read, and what is wrong with it: `faults` is empty for a sound log.

    `erased` entries came back from a backup without their subject, who was erased; nothing else of them has changed.
    """

    entries: int
    first_us: int | None
    last_us: int | None
    end: ChainEnd
    faults: tuple[str, ...]
    notes: tuple[str, ...]
    erased: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return not self.faults


class _Faults(list[str]):
    def say(self, text: str) -> None:
        if len(self) < MOST_FAULTS:
            self.append(text)
        elif len(self) == MOST_FAULTS:
            self.append("and more")


def verify(read_anchor: Callable[[], Anchor | None], entries: Iterable[Entry]) -> Verification:
    """Check a chain of entries, in the order of their numbers, and its end.

    The anchor is read before and after the entries: a hub beside us may append meanwhile.
    """
    faults = _Faults()
    before = _read(read_anchor, faults)
    count, first_us, last_us = 0, None, None
    end = ChainEnd()
    anchored: set[ChainEnd] = {end}
    wanted = before.committed.number if before else 0
    unnamed = UnnamedEntries()
    restored = before.erased if before else None
    for entry in entries:
        _check_link(end, entry, faults)
        # Without a restore that has brought back such entries, none can be.
        if not (restored and unnamed.take(entry)) and digest(entry.number, entry.look, entry.previous) != entry.sha256:
            faults.say(f"entry {entry.number} was changed")
        end = ChainEnd(entry.number, entry.sha256)
        if entry.number == wanted:
            anchored.add(end)
        first_us = entry.look.at_us if first_us is None else first_us
        last_us = entry.look.at_us
        count += 1
    after = None if before is None else _read(read_anchor, faults)
    if restored and unnamed.so_far != restored:
        faults.say(
            f"of the entries that name erased persons ({restored.count} at the restore, {unnamed.so_far.count} now) "
            "one or more were changed since"
        )
    _check_end(before, after, end, anchored, faults)
    notes = after.notes if after else ()
    return Verification(count, first_us, last_us, end, tuple(faults), notes, unnamed.so_far.count)


def _read(read_anchor: Callable[[], Anchor | None], faults: _Faults) -> Anchor | None:
    try:
        anchor = read_anchor()
    except AccessHeadDamaged as error:
        faults.say(error.text())
        return None
    return anchor


def _check_link(before: ChainEnd, entry: Entry, faults: _Faults) -> None:
    wanted = before.number + 1
    if entry.number < wanted:
        faults.say(f"entry {entry.number} was inserted before the first one")
    elif entry.number > wanted:
        faults.say(
            f"entry {wanted} is missing"
            if entry.number == wanted + 1
            else f"entries {wanted} to {entry.number - 1} are missing"
        )
    elif entry.previous != before.sha256:
        faults.say(f"entry {entry.number} does not follow entry {before.number}: one of them was changed or exchanged")


def _check_end(
    before: Anchor | None, after: Anchor | None, end: ChainEnd, anchored: set[ChainEnd], faults: _Faults
) -> None:
    if before is None or after is None:
        if end.number:
            faults.say("the file access-log.head is missing: whether the end was cut off can not be told")
        return
    for found in after.breaks:
        faults.say(f"a hub found at its start: {found}")
    known = before.committed
    if end.number < known.number:
        first = end.number + 1
        what = f"entry {first} is" if first == known.number else f"entries {first} to {known.number} are"
        faults.say(f"the end was cut off: {what} missing")
    elif known not in anchored:
        faults.say(f"entry {known.number} is not the one that the hub wrote")
    elif end.number >= after.committed.number and end not in {after.committed, after.pending}:
        faults.say(f"the hub did not write what stands after entry {after.committed.number}")
