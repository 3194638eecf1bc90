"""What a module has measured and not yet got rid of: bounded, the oldest give way."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable

import msgspec

from app.domain.reading import Reading

CAPACITY = 7200


class Outbox:
    """Fresh readings go one by one; those that could not be sent at their time wait apart, and are marked."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self._fresh: collections.deque[Reading] = collections.deque()
        self._late: collections.deque[Reading] = collections.deque()
        self.dropped = 0

    def __len__(self) -> int:
        """Readings that wait."""
        return len(self._fresh) + len(self._late)

    @property
    def late(self) -> int:
        """Those that could not be sent at their time."""
        return len(self._late)

    def add(self, reading: Reading, *, online: bool) -> None:
        """Take a reading that was just measured."""
        if online:
            self._fresh.append(reading)
        else:
            self._late.append(_resent(reading))
        self._bound()

    def take_fresh(self, most: int) -> list[Reading]:
        """The oldest fresh readings, taken out."""
        return [self._fresh.popleft() for _one in range(min(most, len(self._fresh)))]

    def take_late(self, most: int) -> list[Reading]:
        """The oldest late readings, taken out."""
        return [self._late.popleft() for _one in range(min(most, len(self._late)))]

    def give_back(self, readings: Iterable[Reading]) -> None:
        """What was sent and not acknowledged: it waits again, at the head."""
        self._late.extendleft(_resent(reading) for reading in reversed(list(readings)))
        self._bound()

    def cut(self) -> None:
        """The connection is lost: nothing is fresh any more."""
        self._late.extend(_resent(reading) for reading in self._fresh)
        self._fresh.clear()

    def stamp(self, time_ms_of: Callable[[int], int | None]) -> None:
        """The clock was set at last: give readings without a time theirs, by their `seq`."""
        for queue in (self._fresh, self._late):
            for at, reading in enumerate(queue):
                if reading.time_ms is None and reading.seq is not None:
                    queue[at] = msgspec.structs.replace(reading, time_ms=time_ms_of(reading.seq))

    def clear(self) -> int:
        """The power is off: all of it is gone. How many that were."""
        gone = len(self)
        self._fresh.clear()
        self._late.clear()
        return gone

    def _bound(self) -> None:
        while len(self) > self.capacity:
            (self._late or self._fresh).popleft()
            self.dropped += 1


def _resent(reading: Reading) -> Reading:
    return reading if reading.resent else msgspec.structs.replace(reading, resent=True)
