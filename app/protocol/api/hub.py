"""The hub itself over the API: health, the parent's way in, its end."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Health(msgspec.Struct, frozen=True):
    """What a load balancer, a console without a login and `./run doctor` ask."""

    version: str
    # Readings are taken and become durable.
    ready: bool
    # 99 % of the loop's timers ran no later than this, over the last minute.
    loop_lag_p99_ms: float
    commit_failing: bool
    archive_failing: bool
    archive_waiting_segments: int
    # Its readings are made up: a demonstration.
    simulated: bool = False


class EmbeddedLogin(msgspec.Struct, frozen=True):
    """The one-time token that a hub was given by the program that started it."""

    token: Annotated[
        str, msgspec.Meta(min_length=43, max_length=200, pattern=r"^[A-Za-z0-9_\-]+\Z", description="one-time token")
    ]


class EmbeddedSession(msgspec.Struct, frozen=True):
    """A session as administrator, for as long as the hub runs."""

    token: str


class Stopping(msgspec.Struct, frozen=True):
    """The hub ends: listeners first, then a last commit."""

    pid: int
