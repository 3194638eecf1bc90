"""The doctor over the API."""

from __future__ import annotations

from collections.abc import Callable

from litestar.handlers import HTTPRouteHandler

from app.api.access import needs
from app.api.routing import reading
from app.domain.people import Scope
from app.protocol.api.doctor import DoctorReport


def doctor_routes(examine: Callable[[], DoctorReport]) -> list[HTTPRouteHandler]:
    """`examine` blocks, and raises TooManyAttempts while it runs for another."""

    @reading("/v1/doctor", needs(Scope.SETTINGS), sync_to_thread=True)
    def doctor() -> DoctorReport:
        """Examine the hub's machine and data directory, as `./run doctor` does; takes seconds, one at a time."""
        return examine()

    return [doctor]
