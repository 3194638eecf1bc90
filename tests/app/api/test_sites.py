"""Sites and saved views over real HTTP."""

from __future__ import annotations

import contextlib
import secrets

import pytest
import sqlalchemy as sa

from app.domain.credentials import hash_secret
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.hub.roster import Roster
from app.services.access_log import AccessLog
from app.stores.registry.models import Operator
from app.stores.registry.provisioning import Template
from tests.helpers.mqtt_peer import until

HOME = {"city": "Lyon", "street": "12 rue des Lilas", "postcode": "69003", "delivery_point": "09141234567890"}


@pytest.fixture
def registry(trial):
    return trial.hub.platform.fleet._rows._registry


@pytest.fixture
def seen(monkeypatch) -> list:
    notes = []
    monkeypatch.setattr(AccessLog, "note", lambda _log, *told: notes.append((sorted(told[2]), told[3])))
    return notes


@pytest.fixture
async def client(trial):
    return await trial.client(Role.SUPPORT)


# Sites


async def test_a_site_is_made_read_corrected_and_removed(client, seen):
    made = await client.post("/v1/sites", json=HOME)
    number, tag = made.json()["id"], made.headers["etag"]
    assert (made.status_code, made.json()) == (
        201,
        {"id": number, "city": "Lyon", "zone": "Europe/Paris", "version": 1},
    )
    read = await client.get(f"/v1/sites/{number}")
    assert {name: read.json()[name] for name in HOME} == HOME
    assert read.json()["modules"] == 0
    assert seen == [([f"site:{number}"], ("street", "postcode", "delivery_point"))]

    edited = await client.patch(f"/v1/sites/{number}", json={"street": ""}, headers={"If-Match": tag})
    assert edited.json()["version"] == 2
    assert (await client.get(f"/v1/sites/{number}")).json()["street"] is None
    for answer in (
        await client.patch(f"/v1/sites/{number}", json={"street": "x"}, headers={"If-Match": tag}),
        await client.delete(f"/v1/sites/{number}", headers={"If-Match": tag}),
        await client.patch(f"/v1/sites/{number}", json={"street": "x"}, headers={"If-Match": "nonsense"}),
    ):
        assert answer.status_code == 412
    assert (await client.delete(f"/v1/sites/{number}")).status_code == 428
    gone = await client.delete(f"/v1/sites/{number}", headers={"If-Match": edited.headers["etag"]})
    assert gone.status_code == 204
    assert (await client.get(f"/v1/sites/{number}")).status_code == 404


async def test_a_site_with_a_module_stays(client, registry):
    number = (await client.post("/v1/sites", json=HOME)).json()["id"]
    registry.provision("WD1", Template(sites=(number,)))

    assert (await client.delete(f"/v1/sites/{number}", headers={"If-Match": '"1"'})).status_code == 409
    assert (await client.get(f"/v1/sites/{number}")).json()["modules"] == 1


async def test_sites_are_listed_and_each_is_noted(trial, client, seen):
    numbers = [(await client.post("/v1/sites", json={**HOME, "city": city})).json()["id"] for city in ("B", "A", "C")]

    page = (await client.get("/v1/sites?sort=city&limit=2&filter=street:has:LILAS")).json()

    assert ([row["city"] for row in page["items"]], page["total"]) == (["A", "B"], 3)
    assert seen == [(sorted(f"site:{number}" for number in numbers[:2]), ("street", "postcode", "delivery_point"))]
    assert (await client.get("/v1/sites?filter=city:eq:%00")).status_code == 422
    assert (await (await trial.client(Role.VIEWER)).get("/v1/sites")).status_code == 403
    assert (await (await trial.client(Role.SUPPORT, purpose=None)).get("/v1/sites")).status_code == 403


@pytest.mark.parametrize("number", ["0", "-1", "99999", str(2**62), str(2**64), "9" * 5000, "x"])
async def test_a_site_that_is_not_there(client, number):
    for method in ("GET", "PATCH", "DELETE"):
        answer = await client.request(
            method,
            f"/v1/sites/{number}",
            headers={"If-Match": '"1"'},
            **({"json": {"city": "X"}} if method == "PATCH" else {}),
        )
        assert answer.status_code in {400, 404}, (method, answer.text)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"city": ""},
        {"city": "x" * 101},
        {"city": "Ly\x00on"},
        {"city": "Lyon\n"},
        {"city": "Lyon", "zone": "Mars/Olympus"},
        {"city": "Lyon", "zone": "../etc/passwd"},
        {"city": "Lyon", "zone": "Europe"},
        {"city": "Lyon", "owner": "me"},
        {"city": 5},
        [],
        None,
    ],
)
async def test_a_site_that_can_not_be(client, registry, body):
    assert (await client.post("/v1/sites", json=body)).status_code in {400, 422}
    assert registry.sites() == []


async def test_readings_of_a_site_that_moved_count_for_its_new_city(trial, client, registry):
    number = (await client.post("/v1/sites", json=HOME)).json()["id"]
    registry.provision("WD1", Template(sites=(number,)))

    await client.patch(f"/v1/sites/{number}", json={"city": "Nice"}, headers={"If-Match": '"1"'})

    # The hub's roster, which knows the places of keys.
    roster = next(told.__self__ for told in registry._listeners if isinstance(getattr(told, "__self__", None), Roster))
    await until(lambda: {place.city for place in roster.facts.places.values()} == {"Nice"})


# Views


def nested(levels: int) -> list:
    return [nested(levels - 1)] if levels else []


@pytest.fixture
async def people(trial, registry):
    """Clients of two operators."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for name in ("eva", "tom"):
            with registry.writing() as connection:
                number = connection.execute(
                    sa.insert(Operator)
                    .values(
                        name=name,
                        role="viewer",
                        password_hash="x",
                        must_change_password=False,
                        password_us=0,
                        created_us=0,
                    )
                    .returning(Operator.id)
                ).scalar_one()
            token = secrets.token_urlsafe(32)
            principal = Principal(name, ROLE_SCOPES[Role.VIEWER], operator_id=number, role=Role.VIEWER)
            trial.hub.platform.tokens.put(hash_secret(token), principal, None)
            client = trial.anonymous({"Authorization": f"Bearer {token}"})
            found.append(await stack.enter_async_context(client))
        yield found


async def test_a_view_is_saved_shared_and_removed(people):
    eva, tom = people
    made = await eva.post("/v1/views", json={"page": "modules", "name": "Silent", "definition": {"sort": "-age_s"}})
    number = made.json()["id"]
    assert (made.status_code, made.json()["owner"], made.json()["mine"]) == (201, "eva", True)
    assert (await tom.get("/v1/views")).json() == []
    assert (await tom.get(f"/v1/views/{number}")).status_code == 404

    shared = await eva.patch(f"/v1/views/{number}", json={"shared": True}, headers={"If-Match": made.headers["etag"]})
    (seen,) = (await tom.get("/v1/views?page=modules")).json()
    assert (seen["definition"], seen["mine"], seen["version"]) == ({"sort": "-age_s"}, False, 2)
    for answer in (
        await tom.patch(f"/v1/views/{number}", json={"name": "x"}, headers={"If-Match": '"2"'}),
        await tom.delete(f"/v1/views/{number}", headers={"If-Match": '"2"'}),
    ):
        assert answer.status_code == 404
    assert (await eva.delete(f"/v1/views/{number}")).status_code == 428
    assert (
        await eva.patch(f"/v1/views/{number}", json={"name": "x"}, headers={"If-Match": made.headers["etag"]})
    ).status_code == 412
    gone = await eva.delete(f"/v1/views/{number}", headers={"If-Match": shared.headers["etag"]})
    assert gone.status_code == 204
    assert (await eva.get("/v1/views")).json() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"page": "modules", "name": "A"}, 400),
        ({"page": "Mod ules", "name": "A", "definition": {}}, 400),
        ({"page": "modules", "name": "", "definition": {}}, 400),
        ({"page": "modules", "name": "a\x00", "definition": {}}, 400),
        ({"page": "modules", "name": "A", "definition": []}, 400),
        ({"page": "modules", "name": "A", "definition": {"x": "y" * 20_000}}, 422),
        ({"page": "modules", "name": "A", "definition": {"x": nested(30)}}, 422),
        ({"page": "modules", "name": "A", "definition": {"x": nested(900)}}, 422),
    ],
)
async def test_a_view_that_can_not_be(people, body, status):
    assert (await people[0].post("/v1/views", json=body)).status_code == status
    assert (await people[0].get("/v1/views")).json() == []


async def test_a_body_that_is_nested_without_end_is_refused(people):
    body = '{"page": "modules", "name": "A", "definition": {"x": ' + "[" * 50_000 + "]" * 50_000 + "}}"

    answer = await people[0].post("/v1/views", content=body, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["detail"]) == (400, "the request is nested too deeply")


async def test_an_api_token_has_no_views(trial):
    token = secrets.token_urlsafe(32)
    trial.hub.platform.tokens.put(hash_secret(token), Principal("token:erp", ROLE_SCOPES[Role.VIEWER]), None)
    async with trial.anonymous({"Authorization": f"Bearer {token}"}) as client:
        assert (await client.get("/v1/views")).status_code == 403
