"""The range of time that a request asks for: the same two parameters wherever there is one."""

from __future__ import annotations

from typing import Annotated

from litestar.openapi.spec import Example
from litestar.params import QueryParameter

from app.protocol.api.texts import LATEST_US

From = Annotated[
    int,
    QueryParameter(
        ge=0,
        le=LATEST_US,
        description="first moment, UTC microseconds since 1970",
        examples=[Example(value=1_800_000_000_000_000)],
    ),
]
To = Annotated[
    int,
    QueryParameter(
        ge=0,
        le=LATEST_US,
        description="moment after the last, UTC microseconds since 1970",
        examples=[Example(value=1_800_003_600_000_000)],
    ),
]
