"""What every route of the API has in common: pages of a list, problems, the handshake of versions."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

import msgspec

T = TypeVar("T")

# Major: a change that old consoles can not live with. Minor: additions.
API_MAJOR = 1
API_MINOR = 0
# In every answer; in a request, what the console speaks.
VERSION_HEADER = "Wattdeck-Api"
PURPOSE_HEADER = "Wattdeck-Purpose"

# UTC microseconds since 1970, as everywhere inside.
TimeUs = Annotated[int, msgspec.Meta(description="UTC microseconds since 1970", examples=[1800000000000000])]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """Some rows of a list: `items` from `offset` on, of `total` that meet the filters."""

    items: list[T]
    total: int
    offset: int
    limit: int


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457 problem details; `type` is `urn:wattdeck:problem:NAME`, `detail` the sentence for a person."""

    type: str
    title: str
    status: int
    detail: str = ""
    # Where the request is wrong, for one that does not fit its description.
    errors: list[dict[str, Any]] = []


class VersionInfo(msgspec.Struct, frozen=True):
    """Answer of the handshake."""

    product: str
    version: str
    api_major: int
    api_minor: int
    # No login is needed to see whether this is a hub on demonstration data.
    simulated: bool
