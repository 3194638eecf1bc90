"""Columns over a whole fleet: conditions and orders in numpy, with the outcome of `Condition.holds` row by row."""

from __future__ import annotations

import bisect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.domain.errors import OperatorInputError
from app.domain.listing import Comparison, Condition, Listing

Bools = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]

_OPERATORS: Mapping[Comparison, Callable[[Any, Any], Any]] = {
    Comparison.LESS: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.MORE: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}
_NO_CODE = -1


class FleetColumn(Protocol):
    """One column; a value per row, None where it is unknown."""

    def holds(self, condition: Condition) -> Bools:
        """Which rows meet a condition."""
        ...

    def keys(self, rows: Rows) -> tuple[npt.NDArray[Any], Bools]:
        """What orders these rows, and which of them are unknown."""
        ...

    def values(self, rows: Rows) -> list[Any]:
        """The values of some rows."""
        ...


class NumberColumn:
    """Numbers and flags; `unknown` marks the rows without one."""

    def __init__(self, numbers: npt.NDArray[Any], unknown: Bools | None = None) -> None:
        self._numbers = numbers
        self._unknown = np.zeros(len(numbers), np.bool_) if unknown is None else unknown

    def holds(self, condition: Condition) -> Bools:
        """Which rows meet a condition."""
        numbers, value = self._numbers, condition.value
        if condition.comparison is Comparison.UNEQUAL:
            return np.asarray((numbers != value) | self._unknown, np.bool_)
        if condition.comparison is Comparison.EQUAL:
            found = numbers == value
        elif condition.comparison is Comparison.AMONG:
            # A few values, and np.isin would make floats of large integers.
            found = np.zeros(len(numbers), np.bool_)
            for one in value:
                found |= numbers == one
        else:
            found = _OPERATORS[condition.comparison](numbers, value)
        return np.asarray(found & ~self._unknown, np.bool_)

    def keys(self, rows: Rows) -> tuple[npt.NDArray[Any], Bools]:
        """What orders these rows, and which of them are unknown."""
        numbers = self._numbers[rows]
        return (numbers.astype(np.int8) if numbers.dtype == np.bool_ else numbers), self._unknown[rows]

    def values(self, rows: Rows) -> list[Any]:
        """The values of some rows."""
        numbers = self._numbers[rows].tolist()
        unknown = self._unknown[rows]
        if unknown.any():
            for at in np.flatnonzero(unknown):
                numbers[at] = None
        return numbers  # type: ignore[no-any-return]


class Vocabulary:
    """The different values of a column of texts, by number; it only grows."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._words: tuple[tuple[str, ...], npt.NDArray[np.int32], tuple[str, ...]] = ((), np.zeros(0, np.int32), ())

    def code(self, word: str | None) -> int:
        """The number of a word; -1 for none."""
        return _NO_CODE if word is None else self._codes.setdefault(word, len(self._codes))

    def words(self) -> tuple[tuple[str, ...], npt.NDArray[np.int32], tuple[str, ...]]:
        """The words by number, the place of each in their order, and the words in order."""
        if len(self._words[0]) != len(self._codes):
            words = tuple(self._codes)
            order = sorted(range(len(words)), key=words.__getitem__)
            ranks = np.empty(len(words), np.int32)
            ranks[order] = np.arange(len(words), dtype=np.int32)
            self._words = (words, ranks, tuple(words[code] for code in order))
        return self._words


class WordColumn:
    """Texts of which many are alike: kinds, versions, cities."""

    def __init__(
        self, codes: npt.NDArray[Any], words: Sequence[str], ranks: npt.NDArray[np.int32], ordered: Sequence[str]
    ) -> None:
        """See `Vocabulary.words`."""
        self.codes = codes
        self.words = words
        self._ranks = ranks
        self._ordered = ordered

    def holds(self, condition: Condition) -> Bools:
        """Which rows meet a condition."""
        if condition.comparison is Comparison.UNEQUAL:
            return ~self._among((condition.value,))
        if condition.comparison is Comparison.EQUAL:
            return self._among((condition.value,))
        if condition.comparison is Comparison.AMONG:
            return self._among(condition.value)
        # One look per word, one more for unknown: code -1 is the last.
        wanted = np.zeros(len(self.words) + 1, np.bool_)
        wanted[:-1] = self.wanted(condition)
        return np.asarray(wanted[self.codes])

    def wanted(self, condition: Condition) -> Bools:
        """Which words meet a condition of HAS or of order."""
        if condition.comparison is Comparison.HAS:
            part = condition.value.casefold()
            return np.fromiter((part in word.casefold() for word in self.words), np.bool_, len(self.words))
        right = condition.comparison in {Comparison.AT_MOST, Comparison.MORE}
        edge = (bisect.bisect_right if right else bisect.bisect_left)(self._ordered, condition.value)
        if condition.comparison in {Comparison.LESS, Comparison.AT_MOST}:
            return np.asarray(self._ranks < edge)
        return np.asarray(self._ranks >= edge)

    def keys(self, rows: Rows) -> tuple[npt.NDArray[Any], Bools]:
        """What orders these rows, and which of them are unknown."""
        codes = self.codes[rows]
        ranks = np.append(self._ranks, np.int32(0))
        return ranks[codes], codes == _NO_CODE

    def values(self, rows: Rows) -> list[Any]:
        """The values of some rows."""
        return [None if code == _NO_CODE else self.words[code] for code in self.codes[rows].tolist()]

    def counts(self) -> dict[str, int]:
        """How many rows have each word that one has."""
        return _counts(self.codes, self.words)

    def _among(self, wanted: Sequence[str]) -> Bools:
        found = np.zeros(len(self.codes), np.bool_)
        for word in set(wanted):
            at = bisect.bisect_left(self._ordered, word)
            if at < len(self._ordered) and self._ordered[at] == word:
                found |= self.codes == np.flatnonzero(self._ranks == at)[0]
        return found


class NameColumn:
    """Texts that are all different and plain ASCII without NUL: serials."""

    def __init__(self, names: npt.NDArray[np.bytes_], lower: npt.NDArray[np.bytes_], ranks: npt.NDArray[Any]) -> None:
        self._names = names
        self._lower = lower
        self._ranks = ranks

    def holds(self, condition: Condition) -> Bools:
        """Which rows meet a condition."""
        names, value = self._names, condition.value
        if condition.comparison is Comparison.AMONG:
            return np.asarray(np.isin(names, [_raw(one) for one in value]))
        if condition.comparison is Comparison.HAS:
            return np.asarray(np.strings.find(self._lower, _raw(value.casefold())) >= 0)
        if condition.comparison is Comparison.EQUAL:
            return np.asarray(names == _raw(value))
        if condition.comparison is Comparison.UNEQUAL:
            return np.asarray(names != _raw(value))
        # The order of UTF-8 is that of its text.
        return np.asarray(_OPERATORS[condition.comparison](names, _raw(value)))

    def keys(self, rows: Rows) -> tuple[npt.NDArray[Any], Bools]:
        """What orders these rows, and which of them are unknown."""
        return self._ranks[rows], np.zeros(len(rows), np.bool_)

    def values(self, rows: Rows) -> list[Any]:
        """The values of some rows."""
        return [name.decode() for name in self._names[rows].tolist()]


class SetColumn:
    """A few words per row, unordered. EQUAL: it has the word; HAS: a word of it holds the part; AMONG: it has one."""

    def __init__(self, codes: npt.NDArray[np.int32], words: WordColumn) -> None:
        """`codes` has a row per row, filled up with -1; `words` knows the words and has no rows."""
        self._codes = codes
        self._words = words

    def holds(self, condition: Condition) -> Bools:
        """Which rows meet a condition. Raises OperatorInputError for one of order."""
        words = self._words.words
        match condition.comparison:
            case Comparison.EQUAL | Comparison.UNEQUAL:
                wanted = np.array([word == condition.value for word in words], np.bool_)
            case Comparison.AMONG:
                wanted = np.array([word in condition.value for word in words], np.bool_)
            case Comparison.HAS:
                wanted = self._words.wanted(condition)
            case _:
                raise OperatorInputError(f"{condition.column} has no order: it takes eq, ne, has and in")
        # One more for the places that are not filled: code -1 is the last.
        found = np.asarray(np.append(wanted, np.False_)[self._codes].any(axis=1), np.bool_)
        return ~found if condition.comparison is Comparison.UNEQUAL else found

    def counts(self) -> dict[str, int]:
        """How many rows have each word that one has."""
        return _counts(self._codes, self._words.words)

    def keys(self, rows: Rows) -> tuple[npt.NDArray[Any], Bools]:
        """It has no order; lists do not offer it."""
        raise NotImplementedError

    def values(self, rows: Rows) -> list[Any]:
        """The values of some rows."""
        words = self._words.words
        return [sorted(words[code] for code in codes if code != _NO_CODE) for codes in self._codes[rows].tolist()]


def chosen(listing: Listing, columns: Mapping[str, FleetColumn], order: Rows) -> Rows:
    """The rows that meet a listing's conditions, all of them, in its order; `order` is every row in the usual one."""
    rows = order
    if listing.conditions:
        kept = np.ones(len(order), np.bool_)
        for condition in listing.conditions:
            kept &= columns[condition.column].holds(condition)
        rows = order[kept[order]]
    keys: list[npt.NDArray[Any]] = []
    for wanted in reversed(listing.sort):
        key, unknown = columns[wanted.column].keys(rows)
        # The last key of lexsort decides first.
        keys += [np.where(unknown, 0, -key if wanted.descending else key), unknown]
    return rows[np.lexsort(keys)] if keys else rows


def _counts(codes: npt.NDArray[Any], words: Sequence[str]) -> dict[str, int]:
    numbers = np.bincount(codes[codes != _NO_CODE], minlength=len(words)).tolist()
    return {word: number for word, number in zip(words, numbers, strict=True) if number}


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "replace")
