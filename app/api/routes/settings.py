"""Settings while the hub runs."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.handlers import HTTPRouteHandler
from litestar.params import Body

from app.api.access import ApiRequest, needs
from app.api.routing import editing, reading
from app.api.versions import IfMatch, etag, version_of
from app.domain.errors import OperatorInputError
from app.domain.people import Scope
from app.protocol.api.settings import NewValues, Setting, Settings
from app.services.runtime_settings import RuntimeSettings, SettingsNow, SettingView

MOST_AT_ONCE = 100


def settings_routes(settings: RuntimeSettings) -> list[HTTPRouteHandler]:
    """The file is what is edited; its hash is the version."""

    @reading("/v1/settings", needs(Scope.SETTINGS), sync_to_thread=True)
    def all_settings() -> Response[Settings]:
        """Every setting with its value, its range, where it comes from, and whether it may change without a restart."""
        return _answer(settings.all())

    @editing("/v1/settings", needs(Scope.SETTINGS), sync_to_thread=True)
    def edit_settings(
        request: ApiRequest,
        data: Annotated[NewValues, Body(examples=[])],
        if_match: IfMatch = None,
    ) -> Response[Settings]:
        """Write settings to the hub's file. Live ones hold at once, the others after a restart (`needs_restart`)."""
        version = version_of(if_match)
        if not 1 <= len(data) <= MOST_AT_ONCE:
            raise OperatorInputError(f"name 1 to {MOST_AT_ONCE} settings to change")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        return _answer(settings.change(values, version, request.user.name))

    return [all_settings, edit_settings]


def _answer(now: SettingsNow) -> Response[Settings]:
    body = Settings([_shape(view) for view in now.settings], now.problem)
    return Response(body, headers={"ETag": etag(now.version)})


def _shape(view: SettingView) -> Setting:
    row = view.row
    default = list(row.default) if isinstance(row.default, tuple) else row.default
    return Setting(
        row.key,
        view.value,
        default,  # type: ignore[arg-type]
        row.doc,
        row.allowed(),
        row.minimum,
        row.maximum,
        None if row.choices is None else list(row.choices),
        view.source,
        row.live,
        view.pending,
        view.next_value,
    )
