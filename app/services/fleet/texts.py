"""Many short texts in one block of bytes, found by a part of them in milliseconds, beside the interpreter."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from app.ingest.directory import grown

# Between two texts; no byte of UTF-8 is this one, so that no match reaches across.
_SEPARATOR = b"\xff"
# Texts that were replaced stay in the block until they are as many as those that hold.
_LEAST_DEAD = 10_000
# Owners whose texts are joined at once: a few milliseconds of the interpreter.
_MOST_WAITING = 1000

Bytes = npt.NDArray[np.uint8]


class Fit(enum.IntEnum):
    """How a text holds what is looked for; best first."""

    EXACT = 0
    PREFIX = 1
    INSIDE = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Matches:
    """Texts that hold a part: whose each is, which of its owner's texts, and how it fits. Parallel."""

    owners: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]
    fits: npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True, slots=True)
class Texts:
    """An immutable state of a `TextPile`."""

    block: Bytes
    # Where each text begins, and the end of the last.
    starts: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]
    holds: npt.NDArray[np.bool_]
    # How often each byte occurs, so that the rarest of what is looked for is looked for first.
    frequency: npt.NDArray[np.int64]

    def find(self, part: str) -> Matches:
        """The texts that hold a part, each once, in the order they were put."""
        needle = np.frombuffer(part.encode("utf-8", "replace"), np.uint8)
        positions = self._positions(needle)
        texts = np.searchsorted(self.starts, positions, side="right") - 1
        # Both ascend, so the first position within a text is its best.
        first = np.flatnonzero(np.diff(texts, prepend=-1))
        texts, positions = texts[first], positions[first]
        alive = self.holds[texts]
        texts, positions = texts[alive], positions[alive]
        at_start = positions == self.starts[texts]
        whole = at_start & (self.starts[texts + 1] - 1 - self.starts[texts] == len(needle))
        fits = np.where(whole, Fit.EXACT, np.where(at_start, Fit.PREFIX, Fit.INSIDE)).astype(np.int8)
        return Matches(self.owners[texts], self.labels[texts], fits)

    def _positions(self, needle: Bytes) -> npt.NDArray[np.intp]:
        room = len(self.block) - len(needle) + 1
        if not len(needle) or room <= 0:
            return np.zeros(0, np.intp)
        rarest, *others = np.argsort(self.frequency[needle], kind="stable").tolist()
        positions = np.flatnonzero(self.block[rarest : rarest + room] == needle[rarest])
        for at in others:
            positions = positions[self.block[positions + at] == needle[at]]
        return positions


class TextPile:
    """Texts by owner; changed by one thread at a time."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[tuple[int, str]]] = {}
        self._block = np.zeros(0, np.uint8)
        self._size = 0
        self._starts = np.zeros(0, np.int64)
        self._owners = np.zeros(0, np.int64)
        self._labels = np.zeros(0, np.int8)
        self._holds = np.zeros(0, np.bool_)
        self._count = 0
        self._frequency = np.zeros(256, np.int64)

    def put(self, owner: int, texts: Iterable[tuple[int, str]]) -> None:
        """Set the texts of an owner, each with its label, in place of those it had."""
        self._waiting[owner] = list(texts)
        if len(self._waiting) >= _MOST_WAITING:
            self._take_waiting()

    def texts(self) -> Texts:
        """What is in it now. Later changes leave it as it is."""
        self._take_waiting()
        count = self._count
        # What was appended is never written again, so views are enough; only `holds` changes in place.
        return Texts(
            self._block[: self._size],
            np.append(self._starts[:count], self._size),
            self._owners[:count],
            self._labels[:count],
            self._holds[:count].copy(),
            self._frequency.copy(),
        )

    def _take_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        held = self._holds[: self._count]
        held &= ~np.isin(self._owners[: self._count], np.fromiter(waiting, np.int64, len(waiting)))
        if self._count - np.count_nonzero(held) > max(_LEAST_DEAD, self._count // 2):
            self._compact()
        raw = [text.encode("utf-8", "replace") + _SEPARATOR for texts in waiting.values() for _, text in texts]
        if not raw:
            return
        owners = [owner for owner, texts in waiting.items() for _ in texts]
        labels = [label for texts in waiting.values() for label, _ in texts]
        added = np.frombuffer(b"".join(raw), np.uint8)
        lengths = np.fromiter(map(len, raw), np.int64, len(raw))
        count, size = self._count + len(raw), self._size + len(added)
        if size > len(self._block):
            self._block = grown(self._block, 2 * size)
        if count > len(self._starts):
            for name in ("_starts", "_owners", "_labels", "_holds"):
                setattr(self, name, grown(getattr(self, name), 2 * count))
        new = slice(self._count, count)
        self._block[self._size : size] = added
        self._starts[new] = self._size + np.cumsum(lengths) - lengths
        self._owners[new] = owners
        self._labels[new] = labels
        self._holds[new] = True
        self._frequency += np.bincount(added, minlength=256)
        self._count, self._size = count, size

    def _compact(self) -> None:
        """Leave out what no longer holds: a few array operations, whatever the number of texts."""
        kept = self._holds[: self._count].copy()
        lengths = np.diff(np.append(self._starts[: self._count], self._size))
        self._block = self._block[: self._size][np.repeat(kept, lengths)]
        self._owners, self._labels = self._owners[: self._count][kept], self._labels[: self._count][kept]
        lengths = lengths[kept]
        self._starts = np.cumsum(lengths) - lengths
        self._holds = np.ones(len(lengths), np.bool_)
        self._count, self._size = len(lengths), len(self._block)
        self._frequency = np.bincount(self._block, minlength=256)
