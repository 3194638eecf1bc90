"""What of each home's seconds reaches a hub: gaps, boots and sequence numbers, signal and frame gap of its module."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from device_sim.homes.chance import Floats, Int64s, lattice, spread, uniform

_DAY_S = 86_400
_STREAM = 501
# So many days have a gap: most of seconds (a lost packet or two), some of minutes, few of hours (a router off).
_GAP_DAYS = 0.30
_SECONDS, _MINUTES = 0.72, 0.96
# A gap of this length or more may be the module's reboot.
_REBOOT_S, _REBOOTS = 60, 0.35
RSSI_STEP_S = 600
_JITTER_S = 1 << 13


@dataclasses.dataclass(frozen=True, slots=True)
class Stamps:
    """Of some moments, (homes, moments): boot and sequence number of the module."""

    boot_id: Int64s
    seq: Int64s


class Delivery:
    """The delivery of some homes from one moment to another: at most one gap a (UTC) day, by the seed."""

    def __init__(self, seed: int, number: Int64s, start_s: int, end_s: int) -> None:
        self._seed, self._number, self._start_s = seed, number, start_s
        self._first_day = start_s // _DAY_S
        days = np.arange(self._first_day, -(-end_s // _DAY_S), dtype=np.int64)

        def draw(offset: int) -> Floats:
            return uniform(seed, _STREAM + offset, number[:, None], days)

        kind, luck = draw(0), draw(1)
        long = np.where(kind < _SECONDS, 1 + 20 * luck**3, np.where(kind < _MINUTES, 60 + 1_500 * luck**2, 0))
        long = np.where(kind >= _MINUTES, 3_600 + 25_000 * luck**2, long).astype(np.int64)
        long = np.where(draw(2) < _GAP_DAYS, long, 0)
        # Not across midnight, and not in the first minute of all: every day stands for itself.
        begin = days * _DAY_S + 60 + (draw(3) * (_DAY_S - 120 - long)).astype(np.int64)
        self._gap_from, self._gap_to = begin, begin + long
        self._reboots = (long >= _REBOOT_S) & (draw(4) < _REBOOTS)
        # Of each day: how many boots were before it, and when the running one was.
        count = np.cumsum(self._reboots, axis=1)
        self._boots_before: Int64s = count - self._reboots
        booted = np.where(self._reboots, self._gap_to, 0)
        latest = np.maximum.accumulate(booted, axis=1)
        self._booted_before = np.concatenate([np.full((len(number), 1), start_s), latest[:, :-1]], axis=1)
        self._booted_before = np.where(self._booted_before == 0, start_s, self._booted_before)
        # Modules read their meter at a moment of their own within each second.
        self.phase_us = (1_000 * np.floor(900 * uniform(seed, _STREAM + 5, number))).astype(np.int64)
        self._rssi = -48 - 30 * uniform(seed, _STREAM + 6, number)
        self._frame_gap_ms = 1_040 + 260 * uniform(seed, _STREAM + 7, number)
        self._jitter = np.rint(1.3 * spread(seed, _STREAM + 8, np.arange(2 * _JITTER_S) % _JITTER_S)).astype(np.int64)
        self._jitter_at = (uniform(seed, _STREAM + 9, number) * _JITTER_S).astype(np.int64)

    def gaps(self, times_s: Int64s) -> tuple[Int64s, Int64s]:
        """(homes, times): from when to when the gap of each time's day is; both the same where there is none."""
        day = times_s // _DAY_S - self._first_day
        return self._gap_from[:, day], self._gap_to[:, day]

    def stamps(self, times_s: Int64s) -> Stamps:
        """Boot and sequence of the readings at some moments, (homes, times) each; `times_s` may be (times,)."""
        times = np.atleast_2d(times_s)
        day = times // _DAY_S - self._first_day
        row = np.arange(len(self._number))[:, None]
        after = self._reboots[row, day] & (times >= self._gap_to[row, day])
        boots = self._boots_before[row, day] + after
        booted = np.where(after, self._gap_to[row, day], self._booted_before[row, day])
        drawn = uniform(self._seed, _STREAM + 10, self._number[:, None], boots)
        return Stamps((drawn * 2**32).astype(np.int64), times - booted)

    def received(self, start_s: int, count: int, step_s: int) -> Int64s:
        """(homes, count): how many of each step's seconds arrived; steps do not cross midnight (UTC)."""
        times = start_s + step_s * np.arange(count, dtype=np.int64)
        begin, end = self.gaps(times)
        missing = np.minimum(end, times + step_s) - np.maximum(begin, times)
        arrived: Int64s = step_s - np.maximum(missing, 0)
        return arrived

    def rssi(self, start_s: int, count: int) -> Int64s:
        """(homes, count) dBm, slowly fading, of each `RSSI_STEP_S` from `start_s`."""
        times = start_s + RSSI_STEP_S * np.arange(count, dtype=np.int64)
        fading = lattice(self._seed, _STREAM + 11, times[None, :], 5_400, self._number[:, None])
        return np.rint(self._rssi[:, None] + 2.6 * fading).astype(np.int64)

    def jitter(self, start_s: int, count: int) -> Int64s:
        """(homes, count): what each second's signal differs from its step's by, -2 to 2; as often up as down."""
        at = (start_s + self._jitter_at) % _JITTER_S
        window: Any
        if count <= _JITTER_S:
            window = np.lib.stride_tricks.sliding_window_view(self._jitter, count)[at]
        else:
            window = self._jitter[(at[:, None] + np.arange(count)) % _JITTER_S]
        found: npt.NDArray[np.int64] = window
        return found

    @property
    def frame_gap_ms(self) -> Int64s:
        """Of each home's meter link."""
        return self._frame_gap_ms.astype(np.int64)
