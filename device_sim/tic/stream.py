"""A simulated meter as a stream of bytes with their times on the line."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import NamedTuple

from app.domain.linky import BAUD, TicMode
from app.protocol.tic.encode import encode_group
from device_sim.tic.faults import FREEZE_FRAME, INDEX_BACK_FRAME, INDEX_BACK_WH, Fault, LineFaults
from device_sim.tic.frames import FrameMaker
from device_sim.tic.meter import Meter, MeterPlan, Snapshot
from device_sim.tic.power import PowerSource

# Seven data bits, parity, a start and a stop bit.
BITS_PER_CHARACTER = 10
# Enedis allows 16.7 to 33.4 ms between frames and up to 33.4 ms between groups.
FRAME_GAP_S = 0.025
GROUP_GAP_S = 0.002


class Piece(NamedTuple):
    """Bytes, and how long the line is busy with them and silent after them. `ends_frame` with the last of a frame."""

    data: bytes
    line_s: float
    ends_frame: bool


class MeterStream:
    """The pieces that a meter sends, without an end. Its time goes on by the time they take on the line."""

    def __init__(
        self, plan: MeterPlan, mode: TicMode, source: PowerSource, start_s: float, faults: Collection[Fault] = ()
    ) -> None:
        self.frames = 0
        self.at_s = start_s
        self._mode = mode
        self._meter = Meter(plan, source, start_s)
        self._frames = FrameMaker(mode)
        self._faults = frozenset(faults)
        self._line = LineFaults(self._faults, plan.seed)
        self._frozen: Snapshot | None = None

    def pieces(self) -> Iterator[Piece]:
        """What goes over the line, group by group."""
        while True:
            groups = [
                encode_group(self._mode, group.label, group.data, group.horodate)
                for group in self._frames.frame(self._look())
            ]
            pieces = self._line.apply(groups)
            self.frames += 1
            for number, data in enumerate(pieces, start=1):
                ends = number == len(pieces)
                gap_s = FRAME_GAP_S if ends else GROUP_GAP_S
                line_s = len(data) * BITS_PER_CHARACTER / BAUD[self._mode] + gap_s
                yield Piece(data, line_s, ends)
                self.at_s += line_s

    def _look(self) -> Snapshot:
        if self._frozen is not None:
            return self._frozen
        if Fault.INDEX_BACK in self._faults and self.frames + 1 == INDEX_BACK_FRAME:
            self._meter.index_back(INDEX_BACK_WH)
        now = self._meter.look(self.at_s)
        if Fault.CLOCK_DEGRADED in self._faults:
            now = dataclasses.replace(now, clock_degraded=True)
        if Fault.FREEZE in self._faults and self.frames + 1 >= FREEZE_FRAME:
            self._frozen = now
        return now
