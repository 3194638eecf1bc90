"""Every route of the hub, by a table made from the code: who may use it, and how the document describes it."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

from app.api.access import Needs, needs, needs_of, routes_with_needs
from app.api.app import make_app
from app.api.routing import reading
from app.domain.errors import BugError
from app.domain.people import ROLE_SCOPES, Role, Scope
from app.protocol.api.common import PURPOSE_HEADER

# Routes that end what the other requests of this test stand on.
LAST = ("/v1/hub/stop", "/v1/session")


def filled(path: str) -> str:
    """A path with something in place of each parameter; nothing of that name is there."""
    return re.sub(r"\{[^}]*:int\}", "999999", re.sub(r"\{[^}:]*(:str)?\}", "NOTHING-1", path))


async def asked(client: httpx.AsyncClient, method: str, path: str, **options: Any) -> httpx.Response:
    body = {"json": {}} if method in {"POST", "PUT", "PATCH"} else {}
    return await client.request(method, filled(path), **body, **options)


@pytest.fixture
def table(trial) -> list[tuple[str, str, Needs | None]]:
    rows = routes_with_needs(trial.hub.platform.app)
    return sorted(rows, key=lambda row: (row[1].startswith(LAST), row[1], row[0]))


async def test_nobody_passes_without_a_token(trial, table):
    wrong = {}
    async with trial.anonymous() as nobody, trial.anonymous({"Authorization": "Bearer " + "x" * 43}) as impostor:
        for method, path, wanted in table:
            for client in (nobody, impostor):
                status = (await asked(client, method, path)).status_code
                if (status == 401) != (wanted is not None) and not (wanted is None and path.startswith("/v1/session")):
                    wrong[method, path] = status

    assert wrong == {}
    assert len(table) > 5


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_may_do_what_its_scopes_say_and_nothing_else(trial, table, role):
    wrong = {}
    for method, path, wanted in table:
        if wanted is None or (path == LAST[0] and wanted.scope in ROLE_SCOPES[role]):
            continue
        # Each with a login of its own: some routes end it.
        client = await trial.fresh_client(role)
        status = (await asked(client, method, path)).status_code
        allowed = wanted.scope is None or wanted.scope in ROLE_SCOPES[role]
        if (status in {401, 403}) == allowed or status >= 500:
            wrong[method, path] = status

    assert wrong == {}


async def test_no_personal_route_answers_without_a_purpose(trial, table):
    wrong = {}
    for method, path, wanted in table:
        # What is personal at times only has tests of its own.
        if wanted is None or not wanted.personal or wanted.at_times:
            continue
        client = await trial.fresh_client(
            Role.AUDITOR if wanted.scope is Scope.AUDIT_READ else Role.ADMIN, purpose=None
        )
        answer = await asked(client, method, path)
        nonsense = await asked(client, method, path, headers={PURPOSE_HEADER: "Because I want to!"})
        if (answer.status_code, nonsense.status_code) != (403, 403):
            wrong[method, path] = (answer.status_code, nonsense.status_code)

    assert wrong == {}


async def test_the_document_describes_every_route_with_its_roles(trial, table):
    async with trial.anonymous() as client:
        document = (await client.get("/schema/openapi.json")).json()
    for method, path, wanted in table:
        operation = document["paths"][re.sub(r":\w+\}", "}", path)][method.lower()]
        names = {parameter["name"] for parameter in operation.get("parameters", ())}

        assert operation["summary"], (method, path)
        assert "Needs" in operation["description"], (method, path)
        assert (PURPOSE_HEADER in names) == (wanted is not None and bool(wanted.personal)), (method, path)
        assert "500" not in operation["responses"], (method, path)
        if wanted is None:
            assert operation["security"] == []
        elif wanted.scope is not None:
            for role in Role:
                assert (f"{role}" in operation["description"].rpartition("roles: ")[2].split(").")[0].split(", ")) == (
                    wanted.scope in ROLE_SCOPES[role]
                )
    operations = [(path, method) for path, item in document["paths"].items() for method in item]
    assert len(operations) == len(table)


async def test_the_document_explains_every_route_to_somebody_new(trial):
    async with trial.anonymous() as client:
        document = (await client.get("/schema/openapi.json")).json()
    groups = {tag["name"] for tag in document["tags"] if tag.get("description")}
    wrong = []
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if not set(operation["tags"]) <= groups:
                wrong.append((method, path, "has a group that app/api/document_groups.py does not describe"))
            if "`" in operation["summary"] or len(operation["summary"]) > 110:
                wrong.append((method, path, operation["summary"]))
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                if not parameter.get("description"):
                    wrong.append((method, path, parameter["name"], "has no description"))
                if parameter["required"] and not (parameter.get("examples") or schema.get("examples")):
                    wrong.append((method, path, parameter["name"], "has no example"))
                if {"type": "null"} in schema.get("oneOf", ()):
                    wrong.append((method, path, parameter["name"], "is null, which no parameter can be"))
    wrong += [
        (name, "has no docstring")
        for name, shape in document["components"]["schemas"].items()
        if "description" not in shape
    ]

    assert wrong == []


async def test_the_document_names_the_columns_of_each_list(trial):
    async with trial.anonymous() as client:
        document = (await client.get("/schema/openapi.json")).json()
    told = {one["name"]: one for one in document["paths"]["/v1/modules"]["get"]["parameters"]}

    assert "rssi_dbm" in told["sort"]["description"]
    assert " tags " not in told["sort"]["description"]
    assert " tags " in told["filter"]["description"]
    assert told["filter"]["schema"]["type"] == "array"


async def test_the_document_shows_bodies_as_they_are_sent(trial):
    async with trial.anonymous() as client:
        paths = (await client.get("/schema/openapi.json")).json()["paths"]

    def shown(path: str, media_type: str) -> Any:
        (example,) = paths[path]["post"]["requestBody"]["content"][media_type]["examples"].values()
        return example["value"]

    assert shown("/v1/modules/import", "text/csv").startswith("serial,")
    export = shown("/v1/jobs", "application/json")
    started = await (await trial.client()).post("/v1/jobs", json=export)
    # The example is an export that can be: it is refused for its module alone.
    assert (started.status_code, "WD00001" in started.json()["detail"]) == (404, True)


async def test_a_parameter_that_does_not_fit_is_named_with_its_place(trial):
    answer = await (await trial.client()).get("/v1/modules", params={"limit": "many"})

    assert answer.status_code == 400
    assert [(one["key"], one["source"]) for one in answer.json()["errors"]] == [("limit", "query")]


def test_a_route_that_does_not_say_who_may_use_it_is_a_bug(trial):
    @reading("/v1/forgotten", {}, sync_to_thread=False)
    def forgotten() -> None: ...

    with pytest.raises(BugError, match="forgotten"):
        make_app("0", trial.hub.platform.gate, [forgotten])
    assert needs_of(reading("/x", needs(None), sync_to_thread=False)(lambda: None)) == Needs(None)
