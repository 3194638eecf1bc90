"""Grants of the live feed, and the fleet's roster and newest picture as one answer."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from typing import Annotated

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter

from app.api.access import ApiRequest, Gate, needs
from app.api.routing import making, reading, removing
from app.domain.people import Scope
from app.protocol.api.live import GrantShape, GrantWanted
from app.protocol.live import ARROW_STREAM, PERSONAL_SCOPES, LiveScope
from app.services.live.grants import LiveGrants
from app.services.live.picture import Picture, encode_picture, encode_powers
from app.services.live.roster import LiveRoster, encode_roster
from app.stores.registry.faults import UnknownNameError

# Who it is about, in the access log: everybody at once.
WHOLE_FLEET = "fleet:all"
Username = Annotated[
    str,
    PathParameter(
        min_length=1,
        max_length=64,
        description="user name of the grant",
        examples=[Example(value="live:1a2b3c4d5e6f7a8b9c0d1e2f")],
    ),
]
_ARROW = ResponseSpec(bytes, description="an Arrow IPC stream", media_type=ARROW_STREAM)


def live_routes(
    grants: LiveGrants,
    roster: LiveRoster,
    picture: Callable[[], Picture],
    is_module: Callable[[str], bool],
    address: Callable[[], tuple[str, int]],
    gate: Gate,
) -> list[HTTPRouteHandler]:
    """`picture` copies live state, so handlers that ask for one run on the loop; what takes longer goes to a thread."""

    @making("/v1/live-grants", needs(Scope.LIVE, personal=("consumption",), at_times=True))
    async def grant(request: ApiRequest, data: JSONBody[GrantWanted]) -> GrantShape:
        """Be let in to a topic of the live feed for some minutes; ask again, with `renews`, to go on."""
        grants.check(request.user, data.scope, data.serial)
        if data.scope is LiveScope.MODULE and data.serial is not None and not is_module(data.serial):
            raise UnknownNameError("module", data.serial)
        if data.scope in PERSONAL_SCOPES:
            subject = WHOLE_FLEET if data.serial is None else f"module:{data.serial}"
            await asyncio.to_thread(gate.saw, request, [subject])
        given = grants.give(request.user, data.scope, data.serial, renews=data.renews)
        host, port = address()
        return GrantShape(given.username, given.token, [given.topic], _reachable(host, request), port, given.expires_us)

    @removing("/v1/live-grants/{username:str}", needs(Scope.LIVE), sync_to_thread=False)
    def end_grant(request: ApiRequest, username: Username) -> None:
        """End a grant of one's own; its connection is closed."""
        if not grants.end(username, request.user):
            raise UnknownNameError("grant", username)

    @reading("/v1/fleet/roster", needs(Scope.FLEET_READ), answers=_ARROW)
    async def fleet_roster() -> Response[bytes]:
        """Which module each number of a picture is; the schema's metadata name the version and the time."""
        return _stream(await asyncio.to_thread(encode_roster, roster.picture()))

    @reading("/v1/fleet/latest", needs(Scope.FLEET_READ), answers=_ARROW)
    async def fleet_latest() -> Response[bytes]:
        """The newest state of every module as the live feed's `states` has it: without power."""
        found = picture()
        return _stream(await asyncio.to_thread(encode_picture, found, with_power=False))

    @reading("/v1/fleet/power", needs(Scope.READINGS_READ, personal=("consumption",)), answers=_ARROW)
    async def fleet_power(request: ApiRequest) -> Response[bytes]:
        """The newest power of every module whose customer agreed to single seconds."""
        await asyncio.to_thread(gate.saw, request, [WHOLE_FLEET])
        found = picture()
        return _stream(await asyncio.to_thread(encode_powers, found))

    return [grant, end_grant, fleet_roster, fleet_latest, fleet_power]


def _stream(payload: bytes) -> Response[bytes]:
    return Response(payload, media_type=ARROW_STREAM)


def _reachable(host: str, request: ApiRequest) -> str:
    """Where the asker finds the listener: what listens everywhere is found where the API was."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    return request.url.hostname or host if everywhere else host
