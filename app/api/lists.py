"""The parameters that every list takes: offset, limit, sort, filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

from litestar.params import QueryParameter

from app.domain.listing import DEFAULT_LIMIT, MOST_ROWS, Column, Found, Listing, parse_listing
from app.protocol.api.common import Page

R = TypeVar("R")
S = TypeVar("S")

Offset = Annotated[int, QueryParameter(ge=0, le=10_000_000, description="how many rows to pass over")]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST_ROWS, description="how many rows to answer with, at most")]
Sort = Annotated[str, QueryParameter(max_length=200, description="columns, separated by commas; -column is descending")]
Filter = Annotated[
    list[str] | None,
    QueryParameter(
        name="filter",
        max_items=20,
        description="column:comparison:value, repeated; comparisons: eq ne lt le gt ge has in (in takes a|b|c)",
    ),
]


def listing_of(columns: Mapping[str, Column]) -> Callable[..., Listing]:
    """A dependency for one list: `dependencies={"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)}`."""

    def listing(offset: Offset = 0, limit: Limit = DEFAULT_LIMIT, sort: Sort = "", filters: Filter = None) -> Listing:
        return parse_listing(columns, offset=offset, limit=limit, sort=sort, filters=filters or ())

    return listing


def page_of(found: Found[R], shape: Callable[[R], S]) -> Page[S]:
    """The answer of a list."""
    return Page([shape(row) for row in found.rows], found.total, found.offset, found.limit)
