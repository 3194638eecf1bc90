"""What Litestar can not know of our routes, in the OpenAPI document: who may use each, why, and its group."""

from __future__ import annotations

import dataclasses
import http
import inspect
import re
from collections.abc import Iterator

import msgspec
from litestar import Litestar
from litestar.openapi.spec import (
    Example,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    PathItem,
    Reference,
    Schema,
)

from app.api.access import Needs, routes_with_needs
from app.api.document_groups import group_of, tags
from app.api.versions import IF_MATCH
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
# In place of the words of the HTTP standard, some of which do not hold here ("URL follows").
_ANSWERS = {"200": "The answer", "201": "Made", "202": "Begun", "204": "Done; the answer is empty"}
_SHAPES = "app.protocol.api."


def describe(app: Litestar) -> None:
    """Complete the document of an application; call it once, before the document is asked for."""
    document = app.openapi_schema
    paths = document.paths or {}
    groups = []
    for method, path, needs in routes_with_needs(app):
        operation = _operation(paths[_plain(path)], method)
        if operation is not None:
            groups.append(group_of(_plain(path)))
            operation.tags = [groups[-1]]
            _describe(operation, needs)
    document.tags = tags(groups)
    # The page keeps this order within a group: the list before the one, the one before what is done to it.
    document.paths = dict(sorted(paths.items(), key=lambda item: item[0].count("/")))
    documented = _docstrings(msgspec.Struct)
    shapes = {name: words for cls, words in documented for name in (_short(cls.__module__, cls.__name__), cls.__name__)}
    for key, schema in (document.components.schemas or {}).items():
        generic = (schema.title or "").partition("[")[0]
        schema.description = schema.description or shapes.get(key) or shapes.get(generic)
        if schema.properties:
            schema.properties = {name: _shown_with_example(one) for name, one in schema.properties.items()}


def _describe(operation: Operation, needs: Needs | None) -> None:
    # What stands before the first stop is the title in the list of routes.
    first, _, rest = (operation.description or "").partition("\n")
    title = re.split(r"[;:] |\. ", first, maxsplit=1)[0]
    operation.summary = title.rstrip(".").replace("`", "") or operation.summary
    said = [words for words in (first if first.rstrip(".") != title.rstrip(".") else "", rest.strip()) if words]
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
    for parameter in operation.parameters or ():
        if isinstance(parameter, Parameter):
            _describe_parameter(parameter)
    for status, answer in (operation.responses or {}).items():
        if isinstance(answer, OpenAPIResponse) and answer.description == http.HTTPStatus(int(status)).description:
            answer.description = _ANSWERS.get(status, answer.description)


def _describe_parameter(parameter: Parameter) -> None:
    parameter.schema = _never_null(parameter.schema)
    # Our code takes requests without, to answer 428 and not 400.
    parameter.required = parameter.required or parameter.name == IF_MATCH
    if parameter.examples and not parameter.required:
        # The page fills examples in, and what may be left out would then hide most of what is there.
        examples = [one.value for one in parameter.examples.values() if isinstance(one, Example)]
        words = [" and ".join(value) if isinstance(value, list) else value for value in examples]
        parameter.description = f"{parameter.description}; such as {', '.join(map(str, words))}"
        parameter.examples = None
        if isinstance(parameter.schema, Schema):
            parameter.schema = dataclasses.replace(parameter.schema, examples=None)


def _never_null(schema: Schema | Reference | None) -> Schema | Reference | None:
    """A parameter is there or it is left out: null is what our code calls one that is left out."""
    kind = _beside_null(schema)
    return schema if kind is None or not isinstance(schema, Schema) else _joined(kind, schema)


def _shown_with_example(schema: Schema | Reference) -> Schema | Reference:
    """The same in one piece, without `oneOf`, where the page would show no example."""
    kind = _beside_null(schema)
    # A choice of values would have to hold null too.
    if kind is None or not isinstance(schema, Schema) or not isinstance(kind.type, OpenAPIType) or kind.enum:
        return schema
    return _joined(dataclasses.replace(kind, type=[kind.type, OpenAPIType.NULL]), schema)


def _beside_null(schema: Schema | Reference | None) -> Schema | None:
    """What a value is when it is not null; None where that is not one plain kind, or where it is never null."""
    if not isinstance(schema, Schema) or not schema.one_of:
        return None
    kinds = [one for one in schema.one_of if not (isinstance(one, Schema) and one.type is OpenAPIType.NULL)]
    if len(kinds) != 1 or len(kinds) == len(schema.one_of) or not isinstance(kinds[0], Schema):
        return None
    return kinds[0]


def _joined(kind: Schema, around: Schema) -> Schema:
    """A kind with what the schema around it says of it."""
    said = {
        field.name: getattr(around, field.name)
        for field in dataclasses.fields(around)
        if field.name not in {"one_of", "type"} and getattr(around, field.name) is not None
    }
    return dataclasses.replace(kind, **said)


def _docstrings(base: type[msgspec.Struct]) -> Iterator[tuple[type[msgspec.Struct], str]]:
    """The shapes of the API with what they say of themselves."""
    for cls in base.__subclasses__():
        if cls.__module__.startswith(_SHAPES) and cls.__doc__:
            yield cls, inspect.cleandoc(cls.__doc__)
        yield from _docstrings(cls)


def _short(module: str, name: str) -> str:
    """As Litestar calls two shapes of the same name: commands_LeftOut."""
    return f"{module.rpartition('.')[2]}_{name}"


def _operation(item: PathItem, method: str) -> Operation | None:
    found: Operation | None = getattr(item, method.lower())
    return found


def _plain(path: str) -> str:
    """Litestar's path with the types of its parameters left out: /v1/modules/{serial:str} -> /v1/modules/{serial}."""
    return "/".join(
        part.partition(":")[0] + "}" if part.startswith("{") and ":" in part else part for part in path.split("/")
    )
