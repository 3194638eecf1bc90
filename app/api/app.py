"""The HTTP application: every group of routes behind one gate, errors as problem documents, one OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Message, Scope

from app.api.access import Gate
from app.api.document import describe
from app.api.page import ROOT, asset_routes, policy_of, render_plugins
from app.api.problems import problem_response
from app.domain.errors import OperatorInputError, WattdeckError
from app.protocol.api.common import API_MAJOR, API_MINOR, VERSION_HEADER

# A request body is read whole into memory; a list of 48,000 modules to import takes 5 MB.
MOST_BODY_BYTES = 16_000_000
_VERSION = f"{API_MAJOR}.{API_MINOR}".encode()


def make_app(version: str, gate: Gate, routes: Sequence[HTTPRouteHandler]) -> Litestar:
    """The application. Raises BugError for a route that does not say who may use it."""
    app = Litestar(
        [*routes, *asset_routes()],
        guards=[gate.check],
        before_request=_check_version,
        before_send=[_add_headers],
        exception_handlers={
            WattdeckError: problem_response,
            HTTPException: problem_response,
            Exception: problem_response,
        },
        request_max_body_size=MOST_BODY_BYTES,
        openapi_config=_document(version),
        logging_config=None,
    )
    describe(app)
    return app


def _document(version: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Wattdeck",
        version=version,
        description="Everything a console, a consumer app or a third party asks of the hub.",
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer", description="a session or API token")
            }
        ),
        security=[{"token": []}],
        path=ROOT,
        render_plugins=render_plugins(),
        use_handler_docstrings=True,
    )


def _check_version(request: Request[Any, Any, Any]) -> Response[bytes] | None:
    """Refuse a console that speaks another major version; who does not say speaks ours."""
    spoken = request.headers.get(VERSION_HEADER, "")
    if spoken and spoken.partition(".")[0] != str(API_MAJOR):
        raise OperatorInputError(
            f"this hub speaks version {API_MAJOR} of the API, not {spoken[:20]}; update the older one"
        )
    return None


async def _add_headers(message: Message, scope: Scope) -> None:
    if message["type"] == "http.response.start":
        message["headers"] = [
            *message.get("headers", ()),
            (VERSION_HEADER.lower().encode(), _VERSION),
            (b"x-content-type-options", b"nosniff"),
            (b"content-security-policy", policy_of(scope["path"]).encode()),
        ]
