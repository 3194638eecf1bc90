"""The hub's own state: the handshake of versions, health, readiness, statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from litestar import Response
from litestar.handlers import HTTPRouteHandler

from app.api.access import needs, public
from app.api.routing import reading
from app.domain.people import Scope
from app.protocol.api.common import API_MAJOR, API_MINOR, VersionInfo
from app.protocol.api.hub import Health

Statistics = Mapping[str, float]


def state_routes(
    version: str, statistics: Callable[[], Statistics], ready: Callable[[], bool], *, simulated: bool
) -> list[HTTPRouteHandler]:
    """Health and version need no login: a load balancer and a console that can not log in yet ask for them."""

    @reading("/v1/version", public(), sync_to_thread=False)
    def version_now() -> VersionInfo:
        """Which product, program version and API version this is: what a console asks first."""
        return VersionInfo("wattdeck", version, API_MAJOR, API_MINOR, simulated)

    @reading("/v1/health", public(), sync_to_thread=False)
    def health() -> Health:
        """Whether the hub takes readings; always 200 while the process answers."""
        now = statistics()
        return Health(
            version,
            ready(),
            now["loop.lag_p99_ms"],
            bool(now["commit.failing"]),
            bool(now["archive.failing"]),
            int(now["archive.waiting_segments"]),
            simulated,
        )

    @reading("/v1/ready", public(), sync_to_thread=False)
    def readiness() -> Response[dict[str, Any]]:
        """200 while the hub takes readings, else 503: for a load balancer."""
        is_ready = ready()
        return Response({"ready": is_ready}, status_code=200 if is_ready else 503)

    @reading("/v1/statistics", needs(Scope.HUB_READ), sync_to_thread=False)
    def statistics_now() -> dict[str, float]:
        """Counters since the start and gauges now, by name; docs/operating.md explains each."""
        return dict(statistics())

    return [version_now, health, readiness, statistics_now]
