"""What Litestar can not know of our routes, in the OpenAPI document: who may use each, and with which purpose."""

from __future__ import annotations

import dataclasses

from litestar import Litestar
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, PathItem, Schema

from app.api.access import Needs, routes_with_needs
from app.domain.people import Role, roles_with
from app.protocol.api.common import PURPOSE_HEADER

_PURPOSE = Parameter(
    name=PURPOSE_HEADER,
    param_in="header",
    description="why personal data are looked at: code[; ticket]. It stands in the access log",
    required=True,
    schema=Schema(
        type=OpenAPIType.STRING,
        pattern=r"^[a-z][a-z0-9_-]{1,39}(; [a-zA-Z0-9_-]{1,100})?$",
        examples=["support; T-1042"],
    ),
)
# Paths that would be a group of one.
_OF_THE_HUB = frozenset({"version", "health", "ready", "statistics", "doctor"})


def describe(app: Litestar) -> None:
    """Complete the document of an application; call it once, before the document is asked for."""
    paths = app.openapi_schema.paths or {}
    for method, path, needs in routes_with_needs(app):
        operation = _operation(paths[_plain(path)], method)
        if operation is not None:
            _describe(operation, path, needs)


def _describe(operation: Operation, path: str, needs: Needs | None) -> None:
    word = path.split("/")[2] if path.count("/") > 1 else ""
    operation.tags = [word if word and word not in _OF_THE_HUB else "hub"]
    # The first line stands in the list of routes, the rest beside it.
    summary, _, rest = (operation.description or "").partition("\n")
    operation.summary = summary.rstrip(".") or operation.summary
    said = [rest.strip()] if rest.strip() else []
    if needs is None:
        operation.security = []
        said.append("Needs no login.")
    else:
        roles = list(Role) if needs.scope is None else roles_with(needs.scope)
        scope = "any login" if needs.scope is None else f"the scope `{needs.scope}`"
        said.append(f"Needs {scope} (roles: {', '.join(roles)}).")
        if needs.personal:
            stated = dataclasses.replace(_PURPOSE, required=not needs.at_times)
            operation.parameters = [*(operation.parameters or ()), stated]
            when = " at times, and then needs the header below" if needs.at_times else ""
            said.append(f"Shows personal data{when}, and is noted in the access log: {', '.join(needs.personal)}.")
    operation.description = "\n\n".join(said)


def _operation(item: PathItem, method: str) -> Operation | None:
    found: Operation | None = getattr(item, method.lower())
    return found


def _plain(path: str) -> str:
    """Litestar's path with the types of its parameters left out: /v1/modules/{serial:str} -> /v1/modules/{serial}."""
    return "/".join(
        part.partition(":")[0] + "}" if part.startswith("{") and ":" in part else part for part in path.split("/")
    )
