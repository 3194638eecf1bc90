"""The parameters that every list takes: offset, limit, sort, filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from app.domain.listing import DEFAULT_LIMIT, MOST_ROWS, Column, Found, Listing, parse_listing
from app.protocol.api.common import Page

R = TypeVar("R")
S = TypeVar("S")

Offset = Annotated[int, QueryParameter(ge=0, le=10_000_000, description="how many rows to pass over")]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST_ROWS, description="how many rows to answer with, at most")]


def listing_of(columns: Mapping[str, Column]) -> Callable[..., Listing]:
    """A dependency for one list: `dependencies={"listing": Provide(listing_of(COLUMNS), sync_to_thread=False)}`."""

    def listing(offset: Offset = 0, limit: Limit = DEFAULT_LIMIT, sort: str = "", filters: Any = None) -> Listing:
        return parse_listing(columns, offset=offset, limit=limit, sort=sort, filters=filters or ())

    # What a list may be asked by is its own, and the document says it.
    listing.__annotations__ |= {"sort": _sort(columns), "filters": _filters(columns)}
    return listing


def _sort(columns: Mapping[str, Column]) -> Any:
    names = [name for name, column in columns.items() if column.sortable]
    return Annotated[
        str,
        QueryParameter(
            max_length=200,
            description=f"columns, separated by commas; -column is descending. Columns: {' '.join(names)}",
            examples=[Example(value=f"-{names[0]}")],
        ),
    ]


def _filters(columns: Mapping[str, Column]) -> Any:
    of_text = next((name for name, column in columns.items() if column.kind is str), None)
    example = f"{of_text}:has:a" if of_text else f"{next(iter(columns))}:ge:1"
    return Annotated[
        list[str] | None,
        QueryParameter(
            name="filter",
            max_items=20,
            description="column:comparison:value, repeated; comparisons: eq ne lt le gt ge has in (in takes a|b|c). "
            f"Columns: {' '.join(columns)}",
            examples=[Example(value=[example])],
        ),
    ]


def page_of(found: Found[R], shape: Callable[[R], S]) -> Page[S]:
    """The answer of a list."""
    return Page([shape(row) for row in found.rows], found.total, found.offset, found.limit)
