"""The page that shows the OpenAPI document, with everything it needs served by this hub: it works without Internet."""

from __future__ import annotations

import importlib.resources
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

# Below it: openapi.json, the page, and what the page loads.
ROOT = "/schema"
_SCRIPT = f"{ROOT}/rapidoc-min.js"
# RapiDoc sets styles of its own in the page; nothing comes from elsewhere.
_POLICY = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'"
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Wattdeck API</title><script type="module" src="{_SCRIPT}"></script></head>
<body><rapi-doc spec-url="{ROOT}/openapi.json" render-style="read" theme="light" load-fonts="false"
  schema-style="table" allow-spec-url-load="false" allow-spec-file-load="false" show-header="false"
  allow-server-selection="false" show-method-in-nav-bar="as-colored-text" nav-item-spacing="compact"
  schema-description-expanded="true" primary-color="#0b7285"
  regular-font="system-ui, sans-serif" mono-font="ui-monospace, monospace"></rapi-doc></body>
</html>
"""


class _PagePlugin(OpenAPIRenderPlugin):
    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, _request: Request[Any, Any, Any], _openapi_schema: dict[str, Any]) -> bytes:
        return _PAGE.encode()


def render_plugins() -> list[OpenAPIRenderPlugin]:
    """The page at `ROOT`, the document at `ROOT`/openapi.json."""
    return [_PagePlugin(), JsonRenderPlugin(path="/openapi.json")]


def asset_routes() -> list[HTTPRouteHandler]:
    """What the page loads."""
    script = importlib.resources.files("resources").joinpath("api_page", "rapidoc-min.js").read_bytes()

    @get(_SCRIPT, include_in_schema=False, sync_to_thread=False)
    def rapidoc() -> Response[bytes]:
        return Response(script, media_type="text/javascript", headers={"Cache-Control": "max-age=86400"})

    return [rapidoc]


def policy_of(path: str) -> str:
    """The content security policy of an answer: the page may load its own script, nothing else may load anything."""
    return _POLICY if path.startswith(ROOT) else "default-src 'none'"
