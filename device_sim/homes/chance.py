"""Chance without state: a draw is a function of the seed and of what it is drawn for.

So a home is the same whoever asks for it, in whatever order, and beside however many others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Anys = npt.NDArray[Any]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_TO_UNIT = 2.0**-53
# Of a uniform draw with this half-width the variance is 1.
_UNIT_HALF_WIDTH = math.sqrt(3.0)


def uniform(seed: int, stream: int, *numbers: Anys) -> Floats:
    """Draws in [0, 1) for each combination of the (broadcast) integers."""
    state: Any = np.uint64(_mixed((seed * _GOLDEN + stream * _FIRST) & _MASK))
    for number in numbers:
        wide = np.atleast_1d(number).astype(np.int64, copy=False).view(np.uint64)
        state = _mixed_all(state + wide * np.uint64(_GOLDEN))
    drawn: Floats = (state >> np.uint64(11)).astype(np.float64) * _TO_UNIT
    return drawn


def spread(seed: int, stream: int, *numbers: Anys) -> Floats:
    """Draws with mean 0 and variance 1, bounded: no tail can make a house of a thousand square metres."""
    return _UNIT_HALF_WIDTH * (2.0 * uniform(seed, stream, *numbers) - 1.0)


def lattice(seed: int, stream: int, times_s: Int64s, knot_s: int, *numbers: Anys) -> Floats:
    """Noise of unit variance that runs smoothly through independent knots `knot_s` apart.

    `numbers` name the series; they broadcast with `times_s`.
    """
    knots = times_s // knot_s
    part = (times_s - knots * knot_s) / knot_s
    share = part * part * (3.0 - 2.0 * part)
    one, two = spread(seed, stream, *numbers, knots), spread(seed, stream, *numbers, knots + 1)
    noise: Floats = (one * (1.0 - share) + two * share) / np.sqrt((1.0 - share) ** 2 + share**2)
    return noise


def _mixed(number: int) -> int:
    number = ((number ^ (number >> 30)) * _FIRST) & _MASK
    number = ((number ^ (number >> 27)) * _SECOND) & _MASK
    return number ^ (number >> 31)


def _mixed_all(numbers: Any) -> Any:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(_FIRST)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(_SECOND)
    return numbers ^ (numbers >> np.uint64(31))
