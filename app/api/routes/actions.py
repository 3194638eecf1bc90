"""Who changed what."""

from __future__ import annotations

from typing import Annotated

from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import PathParameter
from litestar.response import Stream

from app.api.access import needs
from app.api.lists import listing_of, page_of
from app.api.routing import reading
from app.domain.listing import Listing
from app.domain.people import Scope
from app.protocol.api.actions import Action
from app.protocol.api.common import Page
from app.services.actions import Actions
from app.stores.registry.action_log import ACTION_COLUMNS, ActionRecord

CSV = "text/csv"
ActionId = Annotated[int, PathParameter(ge=1, le=2**62, description="the change's number", examples=[Example(value=1)])]


def action_routes(actions: Actions) -> list[HTTPRouteHandler]:
    """Actions hold no personal values, so that they may be read and filed as they are."""
    listing = {"listing": Provide(listing_of(ACTION_COLUMNS), sync_to_thread=False)}

    def shape(one: ActionRecord) -> Action:
        return Action(one.id, one.at_us, one.actor, one.what, one.subject, one.before, one.after)

    @reading("/v1/actions", needs(Scope.ACTIONS_READ), dependencies=listing, sync_to_thread=True)
    def list_actions(listing: NamedDependency[Listing]) -> Page[Action]:
        """Changes by people, the newest first."""
        return page_of(actions.found(listing), shape)

    @reading(
        "/v1/actions.csv",
        needs(Scope.ACTIONS_READ),
        dependencies=listing,
        answers=ResponseSpec(str, description="a header, then a line for each change", media_type=CSV),
        sync_to_thread=True,
    )
    def actions_csv(listing: NamedDependency[Listing]) -> Stream:
        """Every change that meets the filters as CSV, oldest first; page and order do not count."""
        return Stream(
            actions.as_csv(listing),
            media_type=CSV,
            headers={"content-disposition": 'attachment; filename="wattdeck-actions.csv"'},
        )

    @reading("/v1/actions/{number:int}", needs(Scope.ACTIONS_READ), sync_to_thread=True)
    def one_action(number: ActionId) -> Action:
        """One change."""
        return shape(actions.get(number))

    return [list_actions, actions_csv, one_action]
