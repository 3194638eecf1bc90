"""Power as stretches of constant watts, and what they come to on a grid of time. All in whole watts: sums are exact."""

from __future__ import annotations

import dataclasses

import numpy as np

from device_sim.homes.appliances import PULSES, STEP_STARTS, STEPS, VAR_PER_WATT, Shape
from device_sim.homes.chance import Anys, Floats, Int64s
from device_sim.homes.uses import Uses

# Watts and vars are summed as one float64: whole numbers below 2^53, vars of a step below this.
_PACK = float(1 << 26)
LONGEST_STEP_S = 600


@dataclasses.dataclass(frozen=True, slots=True)
class Segments:
    """Parallel columns: home (an index) draws `watts` from `start_s` up to, not including, `end_s`."""

    home: Int64s
    start_s: Int64s
    end_s: Int64s
    watts: Int64s
    appliance: Int64s

    def chosen(self, rows: Anys) -> Segments:
        """Some of the rows."""
        return Segments(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def beside(self, *others: Segments) -> Segments:
        """These and others."""
        return Segments(
            *(
                np.concatenate([getattr(part, field.name) for part in (self, *others)])
                for field in dataclasses.fields(self)
            )
        )


def repeated(values: Int64s, counts: Int64s) -> tuple[Int64s, Int64s]:
    """Each value so many times, and the number of each copy."""
    counts = np.maximum(counts, 0)
    starts = np.cumsum(counts) - counts
    return np.repeat(values, counts), np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(starts, counts)


def segments_of_uses(uses: Uses, start_s: int, end_s: int) -> Segments:
    """The stretches of constant power of all uses that reach into a range of time."""
    reaching = uses.chosen((uses.start_s < end_s) & (uses.start_s + uses.long_s > start_s))
    parts = [_steady(reaching.chosen(reaching.shape == Shape.STEADY))]
    parts += [_pulsed(reaching.chosen(reaching.shape == shape), shape) for shape in PULSES]
    parts.append(_programmed(reaching.chosen(reaching.shape >= Shape.PROGRAMMES)))
    return parts[0].beside(*parts[1:])


def joules(segments: Segments, homes: int, start_s: int, step_s: int, count: int) -> tuple[Floats, Floats]:
    """Active and reactive energy of each home and step, (homes, count), exactly: watt-seconds and var-seconds."""
    if not 1 <= step_s <= LONGEST_STEP_S:
        raise ValueError(f"a step is 1 to {LONGEST_STEP_S} s")
    long = step_s * count
    begin = np.clip(segments.start_s - start_s, 0, long)
    end = np.clip(segments.end_s - start_s, 0, long)
    var = np.rint(segments.watts * VAR_PER_WATT[segments.appliance])
    packed = segments.watts * _PACK + var
    width = count + 2
    row = segments.home * width
    size = homes * width
    if step_s == 1:
        at = np.concatenate([row + begin, row + end])
        sums = np.bincount(at, np.concatenate([packed, -packed]), size)
    else:
        places, weights = [], []
        for edge, sign in ((begin, 1.0), (end, -1.0)):
            step = edge // step_s
            into = edge - step * step_s
            places += [row + step, row + step + 1]
            weights += [sign * packed * (step_s - into), sign * packed * into]
        sums = np.bincount(np.concatenate(places), np.concatenate(weights), size)
    grid = sums.reshape(homes, width)[:, :count]
    total = np.cumsum(grid, axis=1)
    active = np.floor(total * (1 / _PACK))
    return active, total - active * _PACK


def _steady(uses: Uses) -> Segments:
    return Segments(uses.home, uses.start_s, uses.start_s + uses.long_s, uses.watts, uses.appliance)


def _pulsed(uses: Uses, shape: Shape) -> Segments:
    pulse = PULSES[shape]
    count = 1 + np.maximum(-(-(uses.long_s - pulse.warm_s) // pulse.period_s), 0)
    at, turn = repeated(np.arange(len(uses.home), dtype=np.int64), count)
    begin = np.where(turn == 0, 0, pulse.warm_s + (turn - 1) * pulse.period_s)
    on_s = max(round(pulse.period_s * pulse.duty), 1)
    end = np.minimum(begin + np.where(turn == 0, pulse.warm_s, on_s), uses.long_s[at])
    start_s = uses.start_s[at]
    return Segments(uses.home[at], start_s + begin, start_s + end, uses.watts[at], uses.appliance[at])


def _programmed(uses: Uses) -> Segments:
    programme = uses.shape - Shape.PROGRAMMES
    count = STEP_STARTS[programme + 1] - STEP_STARTS[programme]
    at, turn = repeated(np.arange(len(uses.home), dtype=np.int64), count)
    offset, long_s, watts = STEPS[STEP_STARTS[programme[at]] + turn].T
    start_s = uses.start_s[at] + offset
    return Segments(uses.home[at], start_s, start_s + long_s, watts, uses.appliance[at])
