"""What can be wrong on a simulated meter's line: faults of the meter's state, and faults of the bytes on their way."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence

import numpy as np

from app.protocol.tic.groups import CR, ETX, LF, STX

# So much falls, at this frame; before it the reader must have seen the index as it was.
INDEX_BACK_WH = 50_000
INDEX_BACK_FRAME = 4
# The meter says the same from this frame on.
FREEZE_FRAME = 3


class Fault(enum.StrEnum):
    """The faults that can be asked for."""

    BAD_CHECKSUM = "bad-checksum"
    NOISE = "noise"
    FREEZE = "freeze"
    LOST_BYTES = "lost-bytes"
    MIDFRAME = "midframe"
    CLOCK_DEGRADED = "clock-degraded"
    INDEX_BACK = "index-back"


FAULT_TEXTS = {
    Fault.BAD_CHECKSUM: "one group of each frame has a wrong checksum",
    Fault.NOISE: "some characters of each frame are others, frame marks inside groups among them",
    Fault.FREEZE: "the meter says the same for ever, its time included",
    Fault.LOST_BYTES: "some characters of each frame do not come",
    Fault.MIDFRAME: "the line begins with NULs and the middle of a frame",
    Fault.CLOCK_DEGRADED: "the meter says that it lost the time",
    Fault.INDEX_BACK: "the index falls once",
}


class LineFaults:
    """Harms the encoded groups of a frame as asked."""

    def __init__(self, faults: Collection[Fault], seed: int) -> None:
        self._faults = frozenset(faults)
        self._random = np.random.default_rng([seed, 3])
        self._is_first = True

    def apply(self, groups: Sequence[bytes]) -> list[bytes]:
        """The pieces of a frame as they leave: STX with the first group, ETX after the last."""
        pieces = list(groups)
        if Fault.BAD_CHECKSUM in self._faults:
            at = int(self._random.integers(len(pieces)))
            wrong = 0x20 + (pieces[at][-2] - 0x20 + 1) % 64
            pieces[at] = b"%b%c%c" % (pieces[at][:-2], wrong, CR)
        if Fault.NOISE in self._faults:
            for at in self._some(len(pieces)):
                inside = int(self._random.integers(1, len(pieces[at]) - 2))
                other = int(self._random.choice([STX, 0x00, 0x7F, pieces[at][inside] ^ 0x04]))
                pieces[at] = b"%b%c%b" % (pieces[at][:inside], other, pieces[at][inside + 1 :])
        if Fault.LOST_BYTES in self._faults:
            for at in self._some(len(pieces)):
                inside = int(self._random.integers(1, len(pieces[at]) - 2))
                pieces[at] = pieces[at][:inside] + pieces[at][inside + 1 :]
        pieces[0] = b"%c%b" % (STX, pieces[0])
        pieces[-1] = b"%b%c" % (pieces[-1], ETX)
        if Fault.MIDFRAME in self._faults and self._is_first:
            middle = len(pieces) // 2
            pieces = [b"\0" * 7 + pieces[middle].removeprefix(b"%c" % LF)[3:], *pieces[middle + 1 :]]
        self._is_first = False
        return pieces

    def _some(self, count: int) -> list[int]:
        """One or two of the groups."""
        return sorted({int(at) for at in self._random.integers(count, size=2)})
