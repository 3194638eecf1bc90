"""The hub's life: the session of the program that started it, and its end."""

from __future__ import annotations

from collections.abc import Callable

from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from app.api.access import ApiRequest, needs, public
from app.api.routing import making
from app.domain.people import Principal, Scope
from app.protocol.api.hub import EmbeddedLogin, EmbeddedSession, Stopping


def hub_routes(exchange: Callable[[str], str], stop: Callable[[Principal], int]) -> list[HTTPRouteHandler]:
    """`exchange` is on the loop; `stop` blocks for its entry among the actions and answers the process id."""

    @making("/v1/session/embedded", public(), sync_to_thread=False, status_code=200)
    def embedded_session(data: JSONBody[EmbeddedLogin]) -> EmbeddedSession:
        """Exchange the one-time token for a session: once, within a minute of the hub being ready."""
        return EmbeddedSession(exchange(data.token))

    @making("/v1/hub/stop", needs(Scope.SETTINGS), sync_to_thread=True, status_code=202)
    def stop_hub(request: ApiRequest) -> Stopping:
        """End the hub, as SIGTERM does: what it has taken is stored and answered first."""
        return Stopping(stop(request.user))

    return [embedded_session, stop_hub]
