"""The gate of the API: every route says what it needs, and nobody passes without it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute

from app.api.page import ROOT
from app.domain.errors import BugError, NotAllowed, NotLoggedIn, PurposeNeeded
from app.domain.people import Principal, Purpose, Scope
from app.protocol.api.common import PURPOSE_HEADER

ApiRequest = Request[Principal, str, State]
# The purpose that stands in the log where the utility has chosen to ask for none.
NOT_STATED = "not stated"
_NEEDS = "needs"
# A code is a word of the utility's own list, a ticket a number of its ticket system.
_PURPOSE = re.compile(r"([a-z][a-z0-9_-]{1,39})(?:\s*;\s*([\x21-\x7e]{1,100}))?")


@dataclasses.dataclass(frozen=True, slots=True)
class Needs:
    """What a route asks for: a scope (None: any principal), and which personal attributes it shows, if any.

    `while_password_is_due`: also somebody who must change their password first. `at_times`: only some requests of the
    route show them, so a purpose is asked for when `Gate.saw` is called, before anything is shown.
    """

    scope: Scope | None
    personal: tuple[str, ...] = ()
    while_password_is_due: bool = False
    at_times: bool = False


# For the few routes that answer before a login.
PUBLIC = None


def needs(
    scope: Scope | None, *, personal: Sequence[str] = (), while_password_is_due: bool = False, at_times: bool = False
) -> dict[str, Any]:
    """The `opt` of a route."""
    return {_NEEDS: Needs(scope, tuple(personal), while_password_is_due, at_times)}


def public() -> dict[str, Any]:
    """The `opt` of a route that needs no login."""
    return {_NEEDS: PUBLIC}


def needs_of(handler: BaseRouteHandler) -> Needs | None:
    """What a route needs; None for a public one. Raises BugError for one that does not say."""
    if _NEEDS not in handler.opt:
        raise BugError(f"route {sorted(handler.paths)} does not say who may use it")
    found = handler.opt[_NEEDS]
    assert found is None or isinstance(found, Needs)
    return found


def routes_with_needs(app: Litestar) -> list[tuple[str, str, Needs | None]]:
    """(method, path, needs) of every route of an application, those of its document's page left out.

    Raises BugError for a route that does not say.
    """
    found: list[tuple[str, str, Needs | None]] = []
    for route in app.routes:
        if route.path.startswith(ROOT):
            continue
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            found += [(method, route.path, needs_of(handler)) for method in sorted(handler.http_methods - {"OPTIONS"})]
    return found


class AccessLog(Protocol):
    """Where every look at personal data is noted."""

    def note(self, principal: Principal, purpose: Purpose, subjects: Sequence[str], attributes: Sequence[str]) -> None:
        """Durable on return. Blocks: not on the loop. Subjects are kind:name, such as module:WD00001 or site:12."""
        ...


class Gate:
    """Checks each request before its handler runs, and notes what a personal one has shown."""

    def __init__(
        self, principal_of: Callable[[str], Principal | None], log: AccessLog, *, purpose_required: Callable[[], bool]
    ) -> None:
        """`principal_of` looks a token up in memory; it is called on the loop for every request."""
        self._principal_of = principal_of
        self._log = log
        self._purpose_required = purpose_required

    def check(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """The guard of every route. Raises NotLoggedIn, NotAllowed, PurposeNeeded."""
        if connection.scope["path"].startswith(ROOT):
            return
        wanted = needs_of(handler)
        if wanted is None:
            return
        principal = self._principal_of(_bearer(connection.headers))
        if principal is None:
            raise NotLoggedIn
        if principal.must_change_password and not wanted.while_password_is_due:
            raise NotAllowed("change your password first: it was given to you")
        if wanted.scope is not None and not principal.may(wanted.scope):
            raise NotAllowed(f"this needs the right {wanted.scope}, which you do not have")
        connection.scope["user"] = principal
        if wanted.personal and not wanted.at_times:
            connection.state["purpose"] = self._purpose(connection.headers.get(PURPOSE_HEADER, ""))

    def saw(self, request: ApiRequest, subjects: Sequence[str]) -> None:
        """Note that a request showed the route's personal attributes of these subjects. Blocks until it is durable.

        Raises PurposeNeeded on a route that is personal at times.
        """
        wanted = needs_of(request.route_handler)
        if wanted is None or not wanted.personal:
            raise BugError("a route that shows personal data must say which")
        if subjects:
            stated = self._purpose(request.headers.get(PURPOSE_HEADER, "")) if wanted.at_times else None
            self._log.note(request.user, stated or request.state["purpose"], subjects, wanted.personal)

    def saw_some(self, request: ApiRequest, subjects: Sequence[str], attributes: Sequence[str]) -> None:
        """As `saw`, where what is personal depends on what is asked: nothing is noted without attributes.

        Raises PurposeNeeded: call it before anything is done.
        """
        if attributes:
            purpose = self._purpose(request.headers.get(PURPOSE_HEADER, ""))
            if subjects:
                self._log.note(request.user, purpose, subjects, attributes)

    def _purpose(self, text: str) -> Purpose:
        if not text:
            if self._purpose_required():
                raise PurposeNeeded
            return Purpose(NOT_STATED)
        found = _PURPOSE.fullmatch(text.strip())
        if found is None:
            raise PurposeNeeded(
                f"{PURPOSE_HEADER} is 'code' or 'code; ticket': a code of a-z 0-9 _ - with 2 to 40 characters, "
                "a ticket of up to 100 without spaces"
            )
        return Purpose(found[1], found[2] or "")


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.casefold() == "bearer" else ""
