"""The statistics for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from litestar import Response
from litestar.handlers import HTTPRouteHandler

from app.api.access import needs, public
from app.api.routing import reading
from app.domain.people import Scope
from app.services.metrics import CONTENT_TYPE, exposition


def metrics_routes(
    version: str, statistics: Callable[[], Mapping[str, float]], *, is_open: bool
) -> list[HTTPRouteHandler]:
    """With `is_open` no token is asked for."""

    @reading("/metrics", public() if is_open else needs(Scope.HUB_READ), sync_to_thread=False, media_type="text/plain")
    def metrics() -> Response[bytes]:
        """Every statistic in Prometheus' text format; a scrape sends a token as `Authorization: Bearer`."""
        return Response(exposition(statistics(), version), media_type=CONTENT_TYPE)

    return [metrics]
