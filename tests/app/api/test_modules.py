"""Modules over real HTTP, with real MQTT sessions behind them."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from app.domain.people import Role
from app.services.access_log import AccessLog
from app.stores.registry.provisioning import Template
from app.stores.registry.records import ModuleKind, NewSite
from app.stores.registry.registry import Registry
from tests.helpers.mqtt_peer import RawClient, until

HOME = NewSite("Saint-Étienne", street="12 allée de l\u2019Œuvre", postcode="42000", delivery_point="09141234567890")


@pytest.fixture
def registry(trial):
    """The hub's own registry: it is told of changes at once."""
    return trial.hub.platform.fleet._rows._registry


@pytest.fixture
def seen(monkeypatch) -> list:
    """What the access log was told."""
    notes = []

    def note(_log, principal, purpose, subjects, attributes):
        notes.append((principal.name, purpose.code, sorted(subjects), attributes))

    monkeypatch.setattr(AccessLog, "note", note)
    return notes


@pytest.fixture
async def client(trial):
    return await trial.client(Role.SUPPORT)


async def listed(client, count: int, query: str = "") -> list[dict]:
    """The list once it has so many rows; it follows the registry within a moment."""
    async with asyncio.timeout(10):
        while True:
            answer = await client.get(f"/v1/modules?{query}")
            assert answer.status_code == 200, answer.text
            if answer.json()["total"] == count:
                return answer.json()["items"]
            await asyncio.sleep(0.02)


async def connected(trial, given, **fields) -> RawClient:
    _host, port = trial.hub.addresses["mqtt"]
    return await RawClient.connected(
        port, given["username"], username=given["username"], password=given["secret"].encode(), **fields
    )


async def created(client, serial: str, **fields) -> dict:
    answer = await client.post("/v1/modules", json={"serial": serial, **fields})
    assert answer.status_code == 201, answer.text
    return answer.json()


def reading(**fields) -> bytes:
    return json.dumps({"time_ms": int(time.time() * 1000), **fields}).encode()


# Lists and facts


async def test_a_module_is_listed_with_how_it_is_doing(trial, client):
    given = await created(client, "WD1", site={"city": "Lyon"}, tags=["pilot"])
    await listed(client, 1)
    peer = await until_connected(trial, given)
    peer.publish("wd/v1/m/WD1/tele", reading(apparent_va=1500, rssi_dbm=-61, frame_gap_ms=1285), qos=1)
    await peer.acknowledged()

    (row,) = await listed(client, 1, "filter=state:eq:live")

    assert {name: row[name] for name in ("serial", "kind", "dialect", "collection", "city", "tags", "blocked")} == {
        "serial": "WD1",
        "kind": "module",
        "dialect": "wattdeck",
        "collection": "active",
        "city": "Lyon",
        "tags": ["pilot"],
        "blocked": False,
    }
    assert (row["connected"], row["received"], row["rssi_dbm"], row["frame_gap_ms"]) == (True, 1, -61, 1285)
    assert 0 <= row["age_s"] < 3
    assert "power" not in row
    peer.drop()
    (row,) = await listed(client, 1, "filter=state:eq:offline")
    assert row["connected"] is False
    facts = (await client.get("/v1/modules/WD1")).json()
    assert facts["live"]["state"] == "offline"
    assert facts["live"]["rssi_dbm"] == -61
    assert [(channel["channel"], channel["city"]) for channel in facts["channels"]] == [(1, "Lyon")]
    assert facts["credential"] == "active"


async def test_power_is_personal_and_says_what_it_is(trial, client, seen, registry):
    registry.provision("QUIET")
    given = await created(client, "WD1")
    peer = await until_connected(trial, given)
    peer.publish("wd/v1/m/WD1/tele", reading(apparent_va=1500), qos=1)
    await peer.acknowledged()
    await listed(client, 1, "filter=received:ge:1")

    answer = await client.get("/v1/modules/power?sort=-power")

    rows = [(row["serial"], row["power"], row["power_kind"]) for row in answer.json()["items"]]
    assert rows == [("WD1", 1500.0, "VA"), ("QUIET", None, None)]
    assert seen == [("test-support", "test", ["module:QUIET", "module:WD1"], ("consumption",))]
    for role in (Role.VIEWER, Role.AUDITOR):
        assert (await (await trial.client(role)).get("/v1/modules/power")).status_code == 403
    # Not even by asking for what is above a threshold.
    assert (await client.get("/v1/modules?filter=power:gt:1000")).status_code == 422
    peer.drop()


async def test_a_list_is_filtered_sorted_and_paged(client, registry):
    (lyon, nimes) = registry.add_sites([NewSite("Lyon"), NewSite("Nîmes")])
    registry.provision_many(["A1", "A2"], Template(sites=(lyon,)))
    registry.provision_many(["B1", "B2"], Template(sites=(nimes,), firmware="2.4.1"))
    registry.ensure_modules(["METER1"], Template(kind=ModuleKind.METER))
    await listed(client, 5)

    async def serials(query: str) -> tuple[list[str], int]:
        page = (await client.get(f"/v1/modules?{query}")).json()
        return [row["serial"] for row in page["items"]], page["total"]

    assert await serials("") == (["A1", "A2", "B1", "B2", "METER1"], 5)
    assert await serials("limit=2&offset=1") == (["A2", "B1"], 5)
    assert await serials("offset=7") == ([], 5)
    # Unknown comes last either way.
    assert await serials("sort=-city,-serial") == (["B2", "B1", "A2", "A1", "METER1"], 5)
    assert await serials("filter=serial:has:b&filter=firmware:eq:2.4.1") == (["B1", "B2"], 2)
    assert await serials("filter=kind:ne:module") == (["METER1"], 1)
    assert await serials("filter=state:in:never|silent&filter=city:has:NÎM") == (["B1", "B2"], 2)
    assert await serials("filter=blocked:eq:true") == ([], 0)
    for query in ("sort=tags", "filter=tags:lt:a", "filter=nothing:eq:1", "limit=1001", "filter=age_s:gt:soon"):
        assert (await client.get(f"/v1/modules?{query}")).status_code in {400, 422}, query
    cities = (await client.get("/v1/cities")).json()
    assert cities == [{"name": "Lyon", "modules": 2}, {"name": "Nîmes", "modules": 2}]


@pytest.mark.parametrize("serial", ["WD9", "a%20b", "%00", "%F0%9F%98%80", "x" * 40])
async def test_a_module_that_is_not_there(client, serial):
    for path in ("", "/personal", "/pairings"):
        assert (await client.get(f"/v1/modules/{serial}{path}")).status_code == 404
    assert (await client.post(f"/v1/modules/{serial}/block")).status_code == 404
    assert (await client.post(f"/v1/modules/{serial}/rekey")).status_code == 404


async def test_what_is_personal_has_a_route_of_its_own(trial, client, seen):
    await created(client, "WD1")
    site = (await client.post("/v1/sites", json={"city": "Lyon", "street": "12 rue X", "postcode": "69003"})).json()
    paired = await client.post(
        "/v1/modules/WD1/pair", json={"site_id": site["id"], "meter_serial": "M1", "new_holder": True, "level": "daily"}
    )

    answer = await client.get("/v1/modules/WD1/personal")

    (channel,) = answer.json()["channels"]
    assert channel.pop("holder").startswith("c-")
    assert channel == {
        "channel": 1,
        "meter_serial": "M1",
        "level": "daily",
        "site_id": site["id"],
        "city": "Lyon",
        "street": "12 rue X",
        "postcode": "69003",
        "delivery_point": None,
    }
    assert seen[-1][2] == ["module:WD1", f"site:{site['id']}"]
    assert "12 rue X" not in paired.text
    assert (await (await trial.client(Role.SUPPORT, purpose=None)).get("/v1/modules/WD1/personal")).status_code == 403
    assert (await (await trial.client(Role.VIEWER)).get("/v1/modules/WD1/personal")).status_code == 403


# Changes


async def test_an_edit_names_the_version_that_was_read(client):
    await created(client, "WD1")
    read = await client.get("/v1/modules/WD1")

    without = await client.patch("/v1/modules/WD1", json={"note": "x"})
    edited = await client.patch("/v1/modules/WD1", json={"note": "roof"}, headers={"If-Match": read.headers["etag"]})
    again = await client.patch("/v1/modules/WD1", json={"note": "late"}, headers={"If-Match": read.headers["etag"]})
    tagged = await client.put(
        "/v1/modules/WD1/tags", json={"tags": ["b", "a"]}, headers={"If-Match": edited.headers["etag"]}
    )

    assert (without.status_code, edited.status_code, again.status_code) == (428, 200, 412)
    assert (edited.json()["note"], edited.json()["version"]) == ("roof", 2)
    assert tagged.json()["tags"] == ["a", "b"]
    assert tagged.headers["etag"] == '"3"'
    (row,) = await listed(client, 1, "filter=tags:eq:a")
    assert row["version"] == 3
    assert (await client.get("/v1/tags")).json() == [{"name": "a", "modules": 1}, {"name": "b", "modules": 1}]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"note": "a\x00b"},
        {"note": "x" * 501},
        {"collection": "gone"},
        {"period_ms": 0},
        {"firmware": "9"},
    ],
)
async def test_an_edit_that_can_not_be(client, body):
    await created(client, "WD1")

    answer = await client.patch("/v1/modules/WD1", json=body, headers={"If-Match": '"1"'})

    assert answer.status_code in {400, 422}
    assert (await client.get("/v1/modules/WD1")).json()["version"] == 1


async def test_who_may_not_write_changes_nothing(trial, registry):
    registry.provision("WD1")
    for role in (Role.VIEWER, Role.TECHNICIAN, Role.AUDITOR):
        client = await trial.client(role)
        for answer in (
            await client.post("/v1/modules", json={"serial": "WD2"}),
            await client.post("/v1/modules/import", content="serial\nWD2\n"),
            await client.post("/v1/modules/WD1/block"),
            await client.post("/v1/modules/WD1/rekey"),
            await client.post("/v1/modules/bulk", json={"what": "block", "serials": ["WD1"], "preview": False}),
            await client.post("/v1/sites", json={"city": "Lyon"}),
        ):
            assert answer.status_code == 403

    assert [module.serial for module in registry.modules()] == ["WD1"]
    assert not registry.credential_rows(["WD1"])[0].blocked


async def test_a_blocked_module_is_thrown_out_and_can_not_come_back_until_it_is_unblocked(trial, client):
    given = await created(client, "WD1")
    peer = await until_connected(trial, given)
    await listed(client, 1, "filter=connected:eq:true")

    blocked = await client.post("/v1/modules/WD1/block")

    assert blocked.json()["credential"] == "blocked"
    await peer.ended()
    await listed(client, 1, "filter=connected:eq:false&filter=blocked:eq:true")
    with pytest.raises(AssertionError, match="Connack"):
        await connected(trial, given)
    # Once more is no fault.
    assert (await client.post("/v1/modules/WD1/block")).json()["blocked_us"] == blocked.json()["blocked_us"]

    assert (await client.post("/v1/modules/WD1/unblock")).json()["credential"] == "active"
    peer = await until_connected(trial, given)
    peer.drop()


async def until_connected(trial, given) -> RawClient:
    """The broker follows the registry within a moment."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await connected(trial, given)
            except (AssertionError, ConnectionError):
                await asyncio.sleep(0.02)


async def test_a_new_secret_ends_the_session_of_the_old_one(trial, client):
    given = await created(client, "WD1")
    peer = await until_connected(trial, given)

    fresh = (await client.post("/v1/modules/WD1/rekey")).json()

    await peer.ended()
    assert fresh["secret"] != given["secret"]
    with pytest.raises(AssertionError, match="Connack"):
        await connected(trial, given)
    (await until_connected(trial, fresh)).drop()


async def test_a_meter_has_nothing_that_could_be_blocked(client, registry):
    registry.ensure_modules(["METER1"], Template(kind=ModuleKind.METER))

    for what in ("block", "unblock", "rekey"):
        answer = await client.post(f"/v1/modules/METER1/{what}")
        assert (answer.status_code, "credential" in answer.json()["detail"]) == (409, True)


async def test_a_bulk_action_is_previewed_then_done(trial, client, registry):
    registry.provision_many(["WD1", "WD2", "XX1"])
    registry.ensure_modules(["WDMETER"], Template(kind=ModuleKind.METER))
    await listed(client, 4)
    body = {"what": "block", "filter": ["serial:has:WD"]}

    preview = (await client.post("/v1/modules/bulk", json=body)).json()

    assert preview["affected"] == ["WD1", "WD2"]
    assert preview["left_out"] == [{"serial": "WDMETER", "reason": "has no credential"}]
    assert not any(row.blocked for row in registry.credential_rows())
    done = (await client.post("/v1/modules/bulk", json={**body, "preview": False})).json()
    assert done == {**preview, "preview": False}
    assert [row.username for row in registry.credential_rows() if row.blocked] == ["WD1", "WD2"]


@pytest.mark.parametrize(
    "body",
    [
        {"what": "block"},
        {"what": "block", "serials": ["A"], "filter": ["serial:eq:A"]},
        {"what": "block", "serials": ["A"], "tag": "x"},
        {"what": "tag", "serials": ["A"]},
        {"what": "tag", "serials": ["A"], "tag": "two words"},
        {"what": "explode", "serials": ["A"]},
        {"what": "block", "filter": ["power:gt:100"]},
        {"what": "block", "filter": ["tags:lt:x"]},
        {"what": "block", "filter": []},
        {"what": "block", "serials": ["no serial"]},
    ],
)
async def test_a_bulk_action_that_can_not_be(client, body):
    assert (await client.post("/v1/modules/bulk", json=body)).status_code in {400, 422}


# New modules


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"serial": "OLD"}, 409),
        ({"serial": "no serial"}, 400),
        ({"serial": ""}, 400),
        ({"serial": "A", "site_id": 999}, 404),
        ({"serial": "A", "site_id": 2**80}, 400),
        ({"serial": "A", "site_id": 1, "site": {"city": "Lyon"}}, 422),
        ({"serial": "A", "site": {"city": "Lyon", "zone": "Mars/Olympus"}}, 422),
        ({"serial": "A", "site": {"city": "Ly\x00on"}}, 400),
        ({"serial": "A", "tags": ["a|b"]}, 400),
        ({"serial": "A", "level": "all"}, 400),
    ],
)
async def test_a_module_that_can_not_be_made(client, registry, body, status):
    registry.provision("OLD")

    answer = await client.post("/v1/modules", json=body)

    assert (answer.status_code, registry.sites()) == (status, [])
    assert [module.serial for module in registry.modules()] == ["OLD"]


async def test_a_file_is_tried_then_imported_and_its_secrets_work(trial, client, registry):
    text = "serial,city,street,delivery_point,tags,note\nWD1,Nîmes,1 rue X,0914,pilot north,roof\nWD2,Nîmes,1 rue X,0914,,\n"

    tried = await client.post("/v1/modules/import?dry_run=true", content=text.encode())
    assert registry.modules() == []
    done = await client.post("/v1/modules/import", content=text.encode(), headers={"content-type": "text/csv"})

    assert tried.json() == {
        "dry_run": True,
        "modules": 2,
        "new_sites": 1,
        "known_sites": 0,
        "problems": [],
        "credentials": [],
    }
    assert done.status_code == 200
    assert [given["serial"] for given in done.json()["credentials"]] == ["WD1", "WD2"]
    facts = (await client.get("/v1/modules/WD1")).json()
    assert (facts["note"], facts["tags"], facts["channels"][0]["city"]) == ("roof", ["north", "pilot"], "Nîmes")
    peer = await until_connected(trial, done.json()["credentials"][1])
    peer.drop()
    again = await client.post("/v1/modules/import?dry_run=true", content=b"serial,delivery_point\nWD3,0914\n")
    assert (again.json()["known_sites"], again.json()["new_sites"]) == (1, 0)


async def test_of_a_file_with_mistakes_nothing_is_imported_and_each_is_told(client, registry):
    registry.provision("OLD")
    text = "serial,city,zone\nWD1,Lyon,\nOLD,,\nbad serial,Lyon,Mars\n"

    tried = await client.post("/v1/modules/import?dry_run=true", content=text)
    done = await client.post("/v1/modules/import", content=text)

    expected = [(3, "serial"), (4, "serial"), (4, "zone")]
    assert [(one["line"], one["column"]) for one in tried.json()["problems"]] == expected
    assert done.status_code == 422
    assert [(one["line"], one["column"]) for one in done.json()["errors"]] == expected
    assert done.json()["type"] == "urn:wattdeck:problem:file-refused"
    assert [module.serial for module in registry.modules()] == ["OLD"]
    assert registry.sites() == []
    for content in (b"", b"\xff\xfe", b"city\nLyon\n"):
        assert (await client.post("/v1/modules/import", content=content)).status_code == 422


# Pairings


async def test_the_life_of_a_pairing(client, seen):
    await created(client, "WD1")
    first = (await client.post("/v1/sites", json={"city": "Lyon"})).json()["id"]
    now_us = time.time_ns() // 1000

    async def change(what: str, status: int = 200, **body) -> dict:
        answer = await client.post(f"/v1/modules/WD1/{what}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    await change("unpair", 409)
    await change("pair", 404, site_id=first + 1)
    await change("pair", 404, site_id=first, channel=2)
    await change("pair", 404, site_id=first, holder="c-0123456789")
    await change("pair", 422, site_id=first, holder="c-0123456789", new_holder=True)
    await change("pair", 422, site_id=first, at_us=now_us + 3_600_000_000)
    await change("pair", 400, site_id=first, at_us=-1)
    paired = await change("pair", site_id=first, meter_serial="M1", at_us=now_us - 1000)
    assert paired["channels"][0]["site_id"] == first
    await change("pair", 409, site_id=first)
    await change("change-meter", meter_serial="M2")
    await change("change-holder", new_holder=True, level="ten_minutes")
    await change("unpair", 409, at_us=now_us - 2000)
    ended = await change("unpair")
    assert ended["channels"][0]["site_id"] is None

    pairings = (await client.get("/v1/modules/WD1/pairings")).json()

    assert [(row["site_id"], row["meter_serial"], row["to_us"] is None) for row in pairings] == [
        (first, "M1", False),
        (first, "M2", False),
    ]
    assert pairings[0]["to_us"] == pairings[1]["from_us"]
    assert seen[-1][2:] == (["module:WD1", f"site:{first}"], ("meter_serial",))


# Search


@pytest.fixture
async def town(client, registry) -> dict[str, int]:
    """Modules and sites to be found; the numbers of the sites."""
    home, empty = registry.add_sites([HOME, NewSite("Étampes", street="3 quai du Bois", postcode="91150")])
    registry.provision("WD00042", Template(sites=(home,), meter_serial="021875001234"))
    registry.provision_many([f"XX{number:03d}" for number in range(60)])
    await listed(client, 61)
    return {"home": home, "empty": empty}


async def hits(client, question: str) -> list[tuple]:
    answer = await client.get("/v1/search", params={"q": question})
    assert answer.status_code == 200, answer.text
    return [(hit["matched"], hit["fit"], hit["serial"]) for hit in answer.json()["hits"]]


@pytest.mark.parametrize(
    ("question", "matched", "fit"),
    [
        ("wd00042", "serial", "exact"),
        ("d0004", "serial", "inside"),
        ("0218750", "meter_serial", "prefix"),
        ("09141234567890", "delivery_point", "exact"),
        ("0914 1234 5678 90", "delivery_point", "exact"),
        ("42000", "postcode", "exact"),
        ("12 ALLEE DE L'OEUVRE", "street", "exact"),
        ("  allée   de l\u2019œuvre", "street", "inside"),
        ("saint-etien", "city", "prefix"),
        ("SAINT-ÉTIENNE", "city", "exact"),
    ],
)
async def test_a_module_is_found_by_each_of_its_identifiers(client, town, question, matched, fit):
    assert await hits(client, question) == [(matched, fit, "WD00042")]


async def test_a_hit_shows_who_it_is_and_is_noted(client, town, seen, registry):
    answer = await client.get("/v1/search", params={"q": "oeuvre"})

    (hit,) = answer.json()["hits"]
    assert (hit["street"], hit["postcode"], hit["city"], hit["delivery_point"], hit["meter_serial"], hit["state"]) == (
        HOME.street,
        HOME.postcode,
        HOME.city,
        HOME.delivery_point,
        "021875001234",
        "never",
    )
    assert seen[-1][:3] == ("test-support", "test", ["module:WD00042"])
    assert await hits(client, "quai du bois") == [("street", "inside", None)]
    assert seen[-1][2] == [f"site:{town['empty']}"]
    assert await hits(client, "nothing of it") == []
    # A look that showed nobody is no look at anybody.
    assert len(seen) == 2


async def test_the_best_come_first_and_there_are_fifty_at_most(client, town, registry):
    registry.provision_many(["1XX007", "XX007X"])
    await listed(client, 63)

    assert [hit[1:] for hit in await hits(client, "xx007")] == [
        ("exact", "XX007"),
        ("prefix", "XX007X"),
        ("inside", "1XX007"),
    ]
    answer = (await client.get("/v1/search", params={"q": "xx"})).json()
    assert (len(answer["hits"]), answer["more"]) == (50, True)
    assert answer["hits"][0]["fit"] == "prefix"


async def test_a_site_and_a_holder_are_found_by_their_names_as_soon_as_they_are_given(client, town):
    number = town["empty"]
    await client.post("/v1/modules/XX001/pair", json={"site_id": number, "new_holder": True})
    holder = (await client.get("/v1/modules/XX001/personal")).json()["channels"][0]["holder"]
    await found(client, holder.lower(), ("holder", "exact", "XX001"))
    await found(client, "quai du bois", ("street", "inside", "XX001"))
    assert ("site_id", "exact", "XX001") in await hits(client, str(number))

    site = await client.get(f"/v1/sites/{number}")
    await client.patch(
        f"/v1/sites/{number}", json={"street": "9 rue Neuve"}, headers={"If-Match": site.headers["etag"]}
    )

    await found(client, "rue neuve", ("street", "inside", "XX001"))
    assert await hits(client, "quai du bois") == []


async def found(client, question: str, hit: tuple) -> None:
    async with asyncio.timeout(10):
        while await hits(client, question) != [hit]:  # noqa: ASYNC110 - a table that follows by itself
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("question", ["", "x" * 101])
async def test_a_question_has_a_length(client, question):
    assert (await client.get("/v1/search", params={"q": question})).status_code == 400


@pytest.mark.parametrize("question", ["\x00", "%", "\U0001f600", "\ud7ff", " ", "\xff"])
async def test_a_question_may_be_anything_else(client, town, question):
    assert await hits(client, question) == []


async def test_the_table_follows_another_process(trial, client):
    with Registry.open(trial.directory.registry) as other:
        other.provision_many(["WD1", "WD2"])
    trial.hub.reload()

    assert [row["serial"] for row in await listed(client, 2)] == ["WD1", "WD2"]
    await until(lambda: trial.hub.platform.fleet.select_serials(["WD1"]).total == 1)
