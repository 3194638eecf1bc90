"""How every list is asked for: a page, an order, and conditions on its columns."""

from __future__ import annotations

import dataclasses
import enum
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from app.domain.errors import OperatorInputError

DEFAULT_LIMIT = 100
MOST_ROWS = 1000
# A list is asked for by people and their views; more conditions than this is a mistake or an attack.
MOST_CONDITIONS = 20
_LONGEST_VALUE = 200

T = TypeVar("T")
Getter = Callable[[T], Any]


class Comparison(enum.StrEnum):
    """How a column is compared with a value. `HAS` is a part of a text, whatever its case."""

    EQUAL = "eq"
    UNEQUAL = "ne"
    LESS = "lt"
    AT_MOST = "le"
    MORE = "gt"
    AT_LEAST = "ge"
    HAS = "has"
    # One of several, separated by |.
    AMONG = "in"


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column that a list may be ordered by and filtered on; `kind` is the type of its values (int, float, str, bool).

    A column that is not `sortable` (a set, say) is filtered on only.
    """

    kind: type
    sortable: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `value` has the type of its column, a tuple of them for AMONG."""

    column: str
    comparison: Comparison
    value: Any

    def holds(self, found: Any) -> bool:
        """Whether a value meets it. Unknown (None) is unequal to everything and meets nothing else."""
        if self.comparison is Comparison.UNEQUAL:
            return bool(found != self.value)
        if found is None:
            return False
        if self.comparison is Comparison.HAS:
            return str(self.value).casefold() in str(found).casefold()
        if self.comparison is Comparison.AMONG:
            return found in self.value
        return bool(_OPERATORS[self.comparison](found, self.value))


_OPERATORS: Mapping[Comparison, Callable[[Any, Any], Any]] = {
    Comparison.EQUAL: operator.eq,
    Comparison.LESS: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.MORE: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}


@dataclasses.dataclass(frozen=True, slots=True)
class SortBy:
    """One column of an order. Unknown values come last either way."""

    column: str
    descending: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Listing:
    """What part of a list is wanted, checked against the list's columns."""

    offset: int = 0
    limit: int = DEFAULT_LIMIT
    sort: tuple[SortBy, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def page(self, rows: Iterable[T], getters: Mapping[str, Getter[T]]) -> Found[T]:
        """The part of rows that are in memory; for lists of thousands, not of a fleet."""
        kept = [row for row in rows if all(one.holds(getters[one.column](row)) for one in self.conditions)]
        # The last key first: each sort is stable.
        for key in reversed(self.sort):
            get = getters[key.column]
            known = [row for row in kept if get(row) is not None]
            unknown = [row for row in kept if get(row) is None]
            known.sort(key=get, reverse=key.descending)
            kept = known + unknown
        return Found(kept[self.offset : self.offset + self.limit], len(kept), self.offset, self.limit)


@dataclasses.dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """Some rows of a list, and how many there are in all."""

    rows: Sequence[T]
    total: int
    offset: int
    limit: int


def parse_listing(
    columns: Mapping[str, Column], *, offset: int, limit: int, sort: str, filters: Sequence[str]
) -> Listing:
    """The listing that `sort=-column,column` and `filter=column:comparison:value` (repeated) ask for.

    Raises OperatorInputError that names the columns there are.
    """
    if not (0 <= offset <= 10_000_000 and 1 <= limit <= MOST_ROWS):
        raise OperatorInputError(f"offset is 0 to 10000000 and limit 1 to {MOST_ROWS}")
    if len(filters) > MOST_CONDITIONS:
        raise OperatorInputError(f"at most {MOST_CONDITIONS} filters at once")
    return Listing(
        offset,
        limit,
        tuple(_sort_by(columns, word) for word in sort.split(",") if word),
        tuple(_condition(columns, text) for text in filters),
    )


def _sort_by(columns: Mapping[str, Column], word: str) -> SortBy:
    name = word.removeprefix("-")
    if name not in columns or not columns[name].sortable:
        names = ", ".join(name for name, column in columns.items() if column.sortable)
        raise OperatorInputError(f"can not sort by {name[:40]!r}; columns: {names}")
    return SortBy(name, word.startswith("-"))


def _condition(columns: Mapping[str, Column], text: str) -> Condition:
    name, _, rest = text.partition(":")
    word, _, value = rest.partition(":")
    if name not in columns:
        raise OperatorInputError(f"can not filter on {name[:40]!r}; columns: {', '.join(columns)}")
    try:
        comparison = Comparison(word)
    except ValueError:
        raise OperatorInputError(
            f"filter {text[:80]!r} is not column:comparison:value; comparisons: {', '.join(Comparison)}"
        ) from None
    if len(value) > _LONGEST_VALUE:
        raise OperatorInputError(f"the value of a filter has at most {_LONGEST_VALUE} characters")
    kind = columns[name].kind
    if comparison is Comparison.HAS:
        if kind is not str:
            raise OperatorInputError(f"'has' looks for a part of a text, and {name} is none")
        return Condition(name, comparison, value)
    if comparison is Comparison.AMONG:
        return Condition(name, comparison, tuple(_value(name, kind, part) for part in value.split("|")))
    return Condition(name, comparison, _value(name, kind, value))


def _value(name: str, kind: type, text: str) -> Any:
    if kind is str:
        return text
    if kind is bool:
        if text in {"true", "false"}:
            return text == "true"
        raise OperatorInputError(f"{name} is true or false, not {text[:40]!r}")
    try:
        number = kind(text)
    except ValueError:
        raise OperatorInputError(f"{name} is compared with a number, not {text[:40]!r}") from None
    # SQL and numpy know 64 bits; nan and infinities compare in ways nobody means.
    if not -(2**62) < number < 2**62:
        raise OperatorInputError(f"{name}: {text[:40]!r} is out of range")
    return number
