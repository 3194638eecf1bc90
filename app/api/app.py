"""The HTTP application: health and statistics of this hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from litestar import Litestar, get
from litestar.openapi import OpenAPIConfig

Statistics = Mapping[str, float]


def make_app(version: str, statistics: Callable[[], Statistics], ready: Callable[[], bool]) -> Litestar:
    """Routes that touch no personal data and need no login; served on loopback only."""

    @get("/v1/health", sync_to_thread=False)
    def health() -> dict[str, object]:
        """Whether the hub takes readings."""
        return {"version": version, "ready": ready()}

    @get("/v1/statistics", sync_to_thread=False)
    def statistics_now() -> dict[str, float]:
        """Counters since the start and gauges now, by name; docs/operating.md explains each."""
        return dict(statistics())

    return Litestar(
        [health, statistics_now],
        openapi_config=OpenAPIConfig(title="Wattdeck", version=version),
        logging_config=None,
    )
