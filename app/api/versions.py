"""If-Match: an edit says which version it changes."""

from __future__ import annotations

import re
from typing import Annotated

from litestar.openapi.spec import Example
from litestar.params import HeaderParameter

from app.domain.errors import VersionConflict, VersionNeeded

IF_MATCH = "If-Match"
# The parameter of every route that edits.
IfMatch = Annotated[
    str | None,
    HeaderParameter(name=IF_MATCH, description="ETag of the version that is changed", examples=[Example(value='"3"')]),
]
_ETAG = re.compile(r'(?:W/)?"([0-9]{1,18})"')


def etag(version: int) -> str:
    """The ETag of a version."""
    return f'"{version}"'


def version_of(if_match: str | None) -> int:
    """The version that an If-Match names. Raises VersionNeeded, or VersionConflict for what is no ETag of ours."""
    if if_match is None:
        raise VersionNeeded
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise VersionConflict
    return int(found[1])
