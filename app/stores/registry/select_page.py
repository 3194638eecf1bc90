"""A part of a list that the database orders and filters."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Row, Select

from app.domain.listing import Comparison, Condition, Found, Listing

Columns = Mapping[str, ColumnElement[Any]]
_OPERATORS: Mapping[Comparison, Callable[[Any, Any], Any]] = {
    Comparison.EQUAL: operator.eq,
    Comparison.LESS: operator.lt,
    Comparison.AT_MOST: operator.le,
    Comparison.MORE: operator.gt,
    Comparison.AT_LEAST: operator.ge,
}


def select_page(
    connection: Connection, query: Select[Any], columns: Columns, listing: Listing, *, last: ColumnElement[Any]
) -> Found[Row[Any]]:
    """The rows of a query that a listing asks for; `last` is unique and makes every order definite."""
    kept = query.where(*conditions_of(columns, listing))
    total = connection.execute(sa.select(sa.func.count()).select_from(kept.order_by(None).subquery())).scalar_one()
    rows = connection.execute(
        kept.order_by(*order_of(columns, listing), last).offset(listing.offset).limit(listing.limit)
    )
    return Found(list(rows), total, listing.offset, listing.limit)


def conditions_of(columns: Columns, listing: Listing) -> list[ColumnElement[bool]]:
    """A listing's conditions on the columns of a query."""
    return [_condition(columns[one.column], one) for one in listing.conditions]


def order_of(columns: Columns, listing: Listing) -> list[ColumnElement[Any]]:
    """A listing's order; unknown values come last either way, as in lists in memory."""
    order: list[ColumnElement[Any]] = []
    for key in listing.sort:
        column = columns[key.column]
        order += [column.is_(None), column.desc() if key.descending else column.asc()]
    return order


def _condition(column: ColumnElement[Any], one: Condition) -> ColumnElement[bool]:
    values = one.value if one.comparison is Comparison.AMONG else (one.value,)
    # No stored text has this character, and PostgreSQL refuses to be asked for it.
    values = tuple(value for value in values if not (isinstance(value, str) and "\0" in value))
    if not values:
        return sa.true() if one.comparison is Comparison.UNEQUAL else sa.false()
    (value, *_) = values
    if one.comparison in _OPERATORS:
        compared: ColumnElement[bool] = _OPERATORS[one.comparison](column, value)
        return compared
    match one.comparison:
        case Comparison.UNEQUAL:
            return sa.or_(column != value, column.is_(None))
        case Comparison.HAS:
            return sa.func.lower(column).contains(str(value).lower(), autoescape=True)
        case _:
            return column.in_(values)
