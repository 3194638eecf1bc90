"""Saved views: an operator's own filters, orders and columns of a page, and those shared with all."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.spec import Example
from litestar.params import JSONBody, PathParameter, QueryParameter

from app.api.access import ApiRequest, needs
from app.api.routing import editing, making, reading, removing
from app.api.versions import IfMatch, etag, version_of
from app.domain.errors import NotAllowed, OperatorInputError
from app.domain.people import Principal, Scope
from app.protocol.api.sites import NewView, View, ViewEdit
from app.stores.registry.views import SavedViews, ViewFile

Number = Annotated[int, PathParameter(ge=1, le=2**62, description="the view's number", examples=[Example(value=1)])]


def view_routes(views: SavedViews) -> list[HTTPRouteHandler]:
    """Whoever sees the fleet may have views of it."""
    allowed = needs(Scope.FLEET_READ)

    @reading("/v1/views", allowed, sync_to_thread=True)
    def every(
        request: ApiRequest,
        page: Annotated[
            str | None,
            QueryParameter(
                max_length=40,
                pattern=r"^[a-z][a-z0-9_.\-]*$",
                description="of this page only",
                examples=[Example(value="modules")],
            ),
        ] = None,
    ) -> list[View]:
        """One's own views and those shared, by page and name."""
        return [_shape(view) for view in views.visible(_owner(request.user), page)]

    @reading("/v1/views/{number:int}", allowed, sync_to_thread=True)
    def one(request: ApiRequest, number: Number) -> Response[View]:
        """A view of one's own, or a shared one."""
        return _answer(views.one(_owner(request.user), number))

    @making("/v1/views", allowed, sync_to_thread=True)
    def create(request: ApiRequest, data: JSONBody[NewView]) -> Response[View]:
        """Save a view under a name that one has not used on its page."""
        user = request.user
        view = views.create(
            user.name, _owner(user), page=data.page, name=data.name, definition=data.definition, shared=data.shared
        )
        return _answer(view, 201)

    @editing("/v1/views/{number:int}", allowed, sync_to_thread=True)
    def edit(request: ApiRequest, number: Number, data: JSONBody[ViewEdit], if_match: IfMatch = None) -> Response[View]:
        """Change a view of one's own."""
        version = version_of(if_match)
        values = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
        if not values:
            raise OperatorInputError("nothing to change: give name, definition or shared")
        return _answer(views.edit(request.user.name, _owner(request.user), number, version, values))

    @removing("/v1/views/{number:int}", allowed, sync_to_thread=True)
    def delete(request: ApiRequest, number: Number, if_match: IfMatch = None) -> None:
        """Remove a view of one's own."""
        views.delete(request.user.name, _owner(request.user), number, version_of(if_match))

    return [every, one, create, edit, delete]


def _owner(principal: Principal) -> int | None:
    """Whose views these are; None for the console that started the hub, which is no operator."""
    if principal.operator_id is None and principal.role is None:
        raise NotAllowed("an API token has no views of its own")
    return principal.operator_id


def _shape(view: ViewFile) -> View:
    return View(*(getattr(view, name) for name in View.__struct_fields__))


def _answer(view: ViewFile, status: int = 200) -> Response[View]:
    return Response(_shape(view), status_code=status, headers={"ETag": etag(view.version)})
