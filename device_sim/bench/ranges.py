"""Sequence numbers as inclusive ranges, gathered one by one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


class Ranges:
    """Numbers added in nearly rising order, kept as inclusive ranges that join as they meet."""

    __slots__ = ("_first", "_last", "_parts")

    def __init__(self) -> None:
        self._parts: list[tuple[int, int]] = []
        self._first = 0
        self._last = -1

    def add(self, number: int) -> None:
        """Add one number; the next after the last one is the cheap case."""
        if number == self._last + 1 and self._last >= self._first:
            self._last = number
        else:
            if self._last >= self._first:
                self._parts.append((self._first, self._last))
            self._first = self._last = number

    def parts(self) -> list[tuple[int, int]]:
        """The ranges, sorted and joined; a number added twice counts once."""
        ranges = sorted([*self._parts, (self._first, self._last)] if self._last >= self._first else self._parts)
        joined: list[tuple[int, int]] = []
        for first, last in ranges:
            if joined and first <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
            else:
                joined.append((first, last))
        return joined


def expand(ranges: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """Every number of inclusive ranges."""
    pieces = [np.arange(first, last + 1, dtype=np.int64) for first, last in ranges]
    return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)
