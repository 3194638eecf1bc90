"""Lists by SQL: the conditions, order and page of a listing on a select."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row, Select

from app.domain.listing import Comparison, Condition, Found, Listing

T = TypeVar("T")
_OPERATORS: Mapping[Comparison, Callable[[Any, Any], Any]] = {
    Comparison.EQUAL: operator.eq,
    Comparison.LESS: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.MORE: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}


def found(
    connection: Connection,
    select: Select[Any],
    columns: Mapping[str, ColumnElement[Any]],
    listing: Listing,
    *,
    last_by: ColumnElement[Any],
    record: Callable[[Row[Any]], T],
) -> Found[T]:
    """The rows of a select that a listing asks for; `last_by` (unique) orders what its sort leaves open."""
    met = where(select, columns, listing)
    total = connection.execute(sa.select(sa.func.count()).select_from(met.order_by(None).subquery())).scalar_one()
    page = met.order_by(None)
    for key in listing.sort:
        column = columns[key.column]
        page = page.order_by((column.desc() if key.descending else column.asc()).nulls_last())
    page = page.order_by(last_by).offset(listing.offset).limit(listing.limit)
    return Found([record(row) for row in connection.execute(page)], total, listing.offset, listing.limit)


def where(select: Select[Any], columns: Mapping[str, ColumnElement[Any]], listing: Listing) -> Select[Any]:
    """The select with the conditions of a listing."""
    return select.where(*(_clause(columns[one.column], one) for one in listing.conditions))


def _clause(column: ColumnElement[Any], condition: Condition) -> ColumnElement[bool]:
    value = condition.value
    if condition.comparison is Comparison.AMONG:
        return column.in_([one for one in value if _can_be_stored(one)])
    if not _can_be_stored(value):
        return sa.true() if condition.comparison is Comparison.UNEQUAL else sa.false()
    if condition.comparison is Comparison.UNEQUAL:
        # Unknown is unequal to everything.
        return column.is_distinct_from(value)
    if condition.comparison is Comparison.HAS:
        return column.icontains(value, autoescape=True)
    clause: ColumnElement[bool] = _OPERATORS[condition.comparison](column, value)
    return clause


def _can_be_stored(value: object) -> bool:
    """PostgreSQL refuses NUL in a text, and no encoding has lone surrogates: no row holds such a value."""
    if not isinstance(value, str):
        return True
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
