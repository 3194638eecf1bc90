"""Collects the groups of a meter's customer output into frames.

A frame begins at STX or at the group with the meter's number, and ends at ETX or where the next one begins. Noise makes
STX too, and groups may change places, so inside a frame neither STX nor the number coming again is believed alone: the
next frame has begun when the group that follows them belongs to a beginning or repeats a label. A frame is whole when
both its ends were seen. Where a stream has no STX and ETX at all (text that was edited or pasted), its end is the end
of the last frame when that ends with the same label as the frame before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from app.domain.linky import TicMode
from app.protocol.tic.groups import BadGroup, Event, Group, Mark
from app.protocol.tic.labels import METER_ID_LABELS

# A short three-phase frame (a phase is over its limit) has ADIRn before the meter's number.
_FIRST_LABELS = METER_ID_LABELS | {"ADIR1", "ADIR2", "ADIR3"}
# More labels than both modes have together: a stream without any frame mark does not grow a frame for ever.
MAX_GROUPS_IN_FRAME = 128


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """The groups of one frame by label (the first of each), those that were bad, and labels that came twice.

    `began` and `ended` say which of its ends were received. A frame that is not correct can be used: what it lacks is
    unknown.
    """

    groups: Mapping[str, Group]
    bad: tuple[BadGroup, ...]
    repeated: tuple[str, ...]
    began: bool
    ended: bool

    @property
    def whole(self) -> bool:
        """Whether its beginning and its end were received."""
        return self.began and self.ended

    @property
    def correct(self) -> bool:
        """Whether every group of the frame arrived unharmed."""
        return self.whole and not self.bad

    @property
    def mode(self) -> TicMode | None:
        """The mode of its groups, None when none is good."""
        return next((group.mode for group in self.groups.values()), None)

    @property
    def meter_id(self) -> str | None:
        """The meter's own number (personal data), None when the frame has none that can be one."""
        for label in METER_ID_LABELS:
            group = self.groups.get(label)
            if group is not None and len(group.data) == 12 and group.data.isalnum():
                return group.data
        return None

    def data(self, label: str) -> str | None:
        """The data of a label, None when it is not in the frame."""
        group = self.groups.get(label)
        return None if group is None else group.data

    def number(self, label: str) -> int | None:
        """The data of a label of digits, None when it is not in the frame."""
        group = self.groups.get(label)
        return int(group.data) if group is not None and group.data.isascii() and group.data.isdigit() else None


class FrameReader:
    """Takes the events of a `GroupReader` and gives frames as they end. Counters run since the construction."""

    def __init__(self) -> None:
        self.frames_whole = 0
        self.frames_correct = 0
        self.frames_partial = 0
        self._groups: dict[str, Group] = {}
        self._bad: list[BadGroup] = []
        self._repeated: list[str] = []
        self._began = False
        self._start_pending = False
        self._marks_seen = False
        self._held_number: Group | None = None
        self._previous_last_label: str | None = None

    def take(self, events: Iterable[Event]) -> Iterator[Frame]:
        """The frames that end in these events."""
        for event in events:
            if isinstance(event, Group):
                yield from self._group(event)
            elif isinstance(event, BadGroup):
                if self._start_pending and not self._open():
                    self._began = True
                    self._start_pending = False
                self._bad.append(event)
            else:
                yield from self._mark(event)
            if len(self._groups) + len(self._bad) + len(self._repeated) >= MAX_GROUPS_IN_FRAME:
                yield from self._end(seen=False)

    def finish(self) -> Iterator[Frame]:
        """The stream ended: the frame that was open. What follows is a new stream."""
        last_label = next(reversed(self._groups), None)
        # Of a stream without marks only the frame before can tell whether the last one is complete.
        seen = not self._marks_seen and self._previous_last_label in {None, last_label}
        number = self._held_number
        if number is not None and not self._marks_seen:
            self._held_number = None
            yield from self._begin(number)
        yield from self._end(seen=seen)
        self._previous_last_label = None
        self._start_pending = False
        self._marks_seen = False

    def _group(self, group: Group) -> Iterator[Frame]:
        if not self._open():
            self._began = self._start_pending or group.label in _FIRST_LABELS
        elif self._held_number is not None and group.label in self._groups:
            number, self._held_number = self._held_number, None
            yield from self._begin(number)
        elif self._begins_next(group):
            yield from self._begin()
        elif group.label in METER_ID_LABELS and group.label in self._groups:
            self._held_number = group
            return
        self._start_pending = False
        self._add(group)

    def _begins_next(self, group: Group) -> bool:
        """Whether this group, alone, shows that the next frame has begun."""
        if group.label in METER_ID_LABELS:
            # What came before was the rest of a frame whose beginning was missed, or STX says so.
            return self._start_pending or not self._began
        repeats = group.label in self._groups
        if group.label in _FIRST_LABELS:
            return self._start_pending or repeats
        return self._start_pending and repeats

    def _begin(self, number: Group | None = None) -> Iterator[Frame]:
        """The next frame has begun, with its number when that came before we knew."""
        yield from self._end(seen=True)
        self._began = True
        if number is not None:
            self._add(number)

    def _add(self, group: Group) -> None:
        if group.label in self._groups:
            self._repeated.append(group.label)
        else:
            self._groups[group.label] = group

    def _mark(self, mark: Mark) -> Iterator[Frame]:
        self._marks_seen = True
        if mark is Mark.FRAME_START:
            self._start_pending = True
        else:
            yield from self._end(seen=mark is Mark.FRAME_END)
            self._start_pending = False

    def _open(self) -> bool:
        return bool(self._groups or self._bad)

    def _end(self, *, seen: bool) -> Iterator[Frame]:
        if self._held_number is not None:
            # No frame followed it: it had only changed its place.
            self._repeated.append(self._held_number.label)
            self._held_number = None
        if self._open():
            frame = Frame(self._groups, tuple(self._bad), tuple(self._repeated), self._began, seen)
            self.frames_whole += frame.whole
            self.frames_correct += frame.correct
            self.frames_partial += not frame.whole
            if frame.whole:
                self._previous_last_label = next(reversed(self._groups), None)
            self._groups, self._bad, self._repeated = {}, [], []
            self._began = False
            yield frame
        self._began = False
