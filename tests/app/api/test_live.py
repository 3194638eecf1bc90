"""The live feed: who is let in to what for how long, and that what comes is what the fleet does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time

import paho.mqtt.client as mqtt
import pyarrow as pa
import pytest

from app.client.live_decoding import decode_fleet, decode_readings, decode_roster
from app.domain.credentials import hash_secret
from app.domain.keys import CollectionLevel
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.protocol.live import EVENTS_TOPIC, FLEET_TOPIC, STATES_TOPIC, STATS_TOPIC, module_topic
from app.services.live import grants as grants_module
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry
from broker.native.connection import Connection
from tests.app.api.conftest import SETTINGS, ApiTrial
from tests.helpers.live_listener import LiveListener
from tests.helpers.mqtt_peer import until

COUNT = 45
NOT_AUTHORIZED = 0x80


class LiveTrial(ApiTrial):
    """A hub with modules WD-00 on, of which WD-02 has no consent for single seconds."""

    secrets: dict[str, str]

    async def grant(self, scope, role=Role.ADMIN, **more):
        answer = await (await self.client(role)).post("/v1/live-grants", json={"scope": scope, **more})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def module(self, serial, **more) -> LiveListener:
        return LiveListener(self.hub.addresses["mqtt"], serial, self.secrets[serial], client_id=serial, **more)

    @contextlib.asynccontextmanager
    async def listening(self, scope, **more):
        grant = await self.grant(scope, **more)
        async with LiveListener.of(grant) as listener:
            assert listener.granted == [0]
            yield listener


@pytest.fixture
async def live(tmp_path, request):
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    with Registry.open(directory.registry) as registry:
        provisioned = registry.provision_many([f"WD-{number:02}" for number in range(COUNT)])
        sites = registry.add_sites([NewSite("Lyon" if number % 2 else "Nice") for number in range(COUNT)])
        for number, site in enumerate(sites):
            level = CollectionLevel.TEN_MINUTES if number == 2 else CollectionLevel.SECOND
            registry.pair(f"WD-{number:02}", 1, 1_000_000, PairedAs(site, level))
    settings = getattr(request, "param", SETTINGS)
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, settings))
        trial = LiveTrial(hub, directory, stack)
        trial.secrets = {one.serial: one.secret for one in provisioned}
        yield trial


def say(listener, serial, **reading):
    reading = {"time_ms": time.time_ns() // 1_000_000, "boot_id": 1, **reading}
    listener.client.publish(f"wd/v1/m/{serial}/tele", json.dumps(reading), qos=1)


# Who is let in.


async def test_a_grant_is_for_one_topic_on_the_operators_port(live):
    grant = await live.grant("stats")

    assert grant["topics"] == [STATS_TOPIC]
    assert grant["port"] == live.hub.addresses["operators"][1]
    assert 14 * 60e6 < grant["expires_us"] - time.time_ns() // 1000 <= 15 * 60e6
    wanted = [STATS_TOPIC, EVENTS_TOPIC, FLEET_TOPIC, "wd/v1/live/#", "#", "wd/v1/m/WD-01/tele", "+/v1/live/fleet"]
    async with LiveListener.of(grant, topics=wanted) as listener:
        assert listener.granted == [0, *[NOT_AUTHORIZED] * 6]
        assert (await listener.json(STATS_TOPIC))["modules_known"] == COUNT
        assert listener.topics() <= {STATS_TOPIC}
    async with LiveListener(live.hub.addresses["mqtt"], grant["username"], grant["token"]) as listener:
        assert listener.refused is not None


@pytest.mark.parametrize(
    "change",
    [
        {"token": "x" * 32},
        {"token": ""},
        {"username": "live:" + "0" * 24},
        {"client_id": "WD-01"},
        {"client_id": "else"},
    ],
)
async def test_what_is_not_exactly_the_grant_is_refused(live, change):
    grant = await live.grant("stats")
    client_id = change.pop("client_id", "")

    async with LiveListener.of({**grant, **change}, client_id=client_id) as listener:
        assert listener.refused is not None
    async with LiveListener.of(grant, client_id=grant["username"] + "/1") as listener:
        assert listener.refused is None


async def test_a_grant_publishes_nothing(live):
    grant = await live.grant("stats")
    async with (
        LiveListener.of(grant, version=mqtt.MQTTv5) as listener,
        live.module("WD-01", topics=["wd/v1/m/WD-01/cmd"]) as module,
    ):
        for topic in (STATS_TOPIC, "wd/v1/m/WD-01/cmd", "wd/v1/m/WD-01/tele", "anything"):
            listener.client.publish(topic, b"{}", qos=1)
        await until(lambda: live.hub.statistics()["broker.publish_denied"] == 4)
        assert "statistics" in await listener.json(STATS_TOPIC)
        assert module.topics() == set()


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_is_granted_what_its_scopes_say(live, role):
    may = ROLE_SCOPES[role]
    client = await live.client(role)
    for scope, needed in (
        ("stats", "hub:read"), ("events", "fleet:read"), ("states", "fleet:read"), ("fleet", "readings:read"),
        ("module", "readings:read"),
    ):  # fmt: skip
        body = {"scope": scope} | ({"serial": "WD-01"} if scope == "module" else {})
        answer = await client.post("/v1/live-grants", json=body)
        assert answer.status_code == (201 if {"live", needed} <= may else 403), (scope, answer.text)


async def test_personal_scopes_need_a_purpose_and_are_noted_once(live, monkeypatch):
    noted = []
    monkeypatch.setattr(
        live.hub.platform.gate._log,
        "note",
        lambda principal, purpose, subjects, attributes: noted.append((principal.name, purpose.code, list(subjects), tuple(attributes))),
    )  # fmt: skip
    silent = await live.client(purpose=None)
    for body in ({"scope": "fleet"}, {"scope": "module", "serial": "WD-01"}):
        answer = await silent.post("/v1/live-grants", json=body)
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:wattdeck:problem:purpose-needed")
        answer = await silent.post("/v1/live-grants", json=body, headers={"Wattdeck-Purpose": "No Words!"})
        assert answer.status_code == 403
    for scope in ("stats", "events", "states"):
        assert (await silent.post("/v1/live-grants", json={"scope": scope})).status_code == 201
    assert len(live.hub.platform.live_grants) == 3
    assert noted == []

    async with live.listening("module", serial="WD-01"), live.listening("fleet") as fleet:
        await fleet.message(FLEET_TOPIC)
        await fleet.message(FLEET_TOPIC)

    assert noted == [
        ("test-admin", "test", ["module:WD-01"], ("consumption",)),
        ("test-admin", "test", ["fleet:all"], ("consumption",)),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"scope": "module", "serial": "NOBODY"}, 404),
        ({"scope": "module"}, 422),
        ({"scope": "stats", "serial": "WD-01"}, 422),
        ({"scope": "everything"}, 400),
        ({"scope": "module", "serial": "WD-01/#"}, 400),
        ({"scope": "module", "serial": "+"}, 400),
        ({"scope": "stats", "topics": ["#"]}, 400),
        ({"scope": "stats", "renews": "x" * 65}, 400),
        ({}, 400),
    ],
)
async def test_a_bad_wish_is_refused(live, body, status):
    answer = await (await live.client()).post("/v1/live-grants", json=body)

    assert answer.status_code == status, answer.text
    assert len(live.hub.platform.live_grants) == 0


async def test_grants_are_bounded_and_can_be_ended(live, monkeypatch):
    monkeypatch.setattr(grants_module, "MOST_OF_ONE", 3)
    grants = [await live.grant("stats") for _ in range(3)]
    client = await live.client()

    answer = await client.post("/v1/live-grants", json={"scope": "stats"})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 15 * 60 + 1
    # Somebody else has room, and ends nobody's grants but their own.
    other = await live.client(Role.VIEWER)
    await live.grant("stats", Role.VIEWER)
    name = grants[0]["username"]
    assert (await other.delete(f"/v1/live-grants/{name}")).status_code == 404
    async with LiveListener.of(grants[0]) as listener:
        assert (await client.delete(f"/v1/live-grants/{name}")).status_code == 204
        await listener.wait_ended()
    assert (await client.delete(f"/v1/live-grants/{name}")).status_code == 404
    await live.grant("stats")


# For how long.


async def test_an_expired_grant_is_closed_and_lets_nobody_in(live, monkeypatch):
    monkeypatch.setattr(grants_module, "_MINUTE_US", 100_000)
    grant = await live.grant("stats")
    async with LiveListener.of(grant) as listener:
        await listener.message(STATS_TOPIC)
        await listener.wait_ended()
    assert len(live.hub.platform.live_grants) == 0
    assert time.time_ns() // 1000 >= grant["expires_us"]
    async with LiveListener.of(grant) as listener:
        assert listener.refused is not None


async def test_a_renewed_grant_goes_on_with_a_new_token(live, monkeypatch):
    monkeypatch.setattr(grants_module, "_MINUTE_US", 150_000)
    grant = await live.grant("stats")
    async with LiveListener.of(grant) as listener:
        monkeypatch.setattr(grants_module, "_MINUTE_US", 60_000_000)
        renewed = await live.grant("stats", renews=grant["username"])
        assert renewed["username"] == grant["username"]
        assert renewed["token"] != grant["token"]
        while time.time_ns() // 1000 < grant["expires_us"] + 1_500_000:
            await listener.message(STATS_TOPIC)
        assert not listener.ended.is_set()
        async with LiveListener.of(grant) as old:
            assert old.refused is not None
        async with LiveListener.of(renewed) as second:
            await second.message(STATS_TOPIC)
    # Nobody renews another's, nor into another scope.
    stolen = await live.grant("stats", Role.VIEWER, renews=grant["username"])
    other = await live.grant("events", renews=grant["username"])
    assert grant["username"] not in {stolen["username"], other["username"]}


async def test_whoever_logs_out_hears_no_more(live):
    principal = Principal("ada", ROLE_SCOPES[Role.ADMIN], role=Role.ADMIN, session_id=1)
    other = Principal("ada", ROLE_SCOPES[Role.ADMIN], role=Role.ADMIN, session_id=2)
    listeners = []
    async with contextlib.AsyncExitStack() as stack:
        for number, who in enumerate((principal, other)):
            live.hub.platform.tokens.put(hash_secret(f"t{number}"), who, None)
            client = await stack.enter_async_context(live.anonymous({"Authorization": f"Bearer t{number}"}))
            grant = (await client.post("/v1/live-grants", json={"scope": "stats"})).json()
            listeners.append(await stack.enter_async_context(LiveListener.of(grant)))
        stays = await stack.enter_async_context(live.listening("stats"))

        assert live.hub.platform.live_grants.end_grants_of("ada", session_id=2) == 1
        await listeners[1].wait_ended()
        assert not listeners[0].ended.is_set()
        # Also from another thread, as a handler of a request is.
        assert await asyncio.to_thread(live.hub.platform.live_grants.end_grants_of, "ada") == 1
        await listeners[0].wait_ended()
        await stays.message(STATS_TOPIC)
        assert not stays.ended.is_set()


async def test_a_session_that_was_to_outlive_its_grant_does_not(live, monkeypatch):
    grant = await live.grant("stats")
    name = grant["username"]
    before = live.hub.statistics()["broker.sessions"]
    async with LiveListener.of(grant, client_id=name, version=mqtt.MQTTv311) as listener:
        listener.client.disconnect()
    kept = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
    kept.username_pw_set(name, grant["token"])
    await asyncio.to_thread(kept.connect, grant["host"], grant["port"])
    kept.loop_start()
    await until(kept.is_connected)
    kept.disconnect()
    await asyncio.to_thread(kept.loop_stop)
    await until(lambda: live.hub.statistics()["broker.connections"] == 0)
    assert live.hub.statistics()["broker.sessions"] == before + 1

    live.hub.platform.live_grants.end_grants_of("test-admin")

    await until(lambda: live.hub.statistics()["broker.sessions"] == before)


async def test_one_grant_has_few_connections(live):
    grant = await live.grant("stats")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(grants_module.MOST_CONNECTIONS):
            await stack.enter_async_context(LiveListener.of(grant))
        async with LiveListener.of(grant) as one_too_many:
            assert one_too_many.refused is not None
    await until(lambda: live.hub.statistics()["broker.connections"] == 0)
    async with LiveListener.of(grant) as again:
        assert again.refused is None


# Modules.


async def test_modules_neither_hear_nor_fill_the_live_feed(live):
    topics = ["wd/v1/live/stats", "wd/v1/live/#", "wd/v1/live/modules/WD-01", "#", "wd/v1/m/WD-01/cmd"]
    async with live.module("WD-01", topics=topics, version=mqtt.MQTTv5) as module, live.listening("stats") as listener:
        assert [granted == 0 for granted in module.granted] == [False, False, False, False, True]
        for topic in (STATS_TOPIC, FLEET_TOPIC, EVENTS_TOPIC):
            module.client.publish(topic, b"forged", qos=1)
        module.client.will_set(STATS_TOPIC, b"forged")
        await until(lambda: live.hub.statistics()["broker.publish_denied"] == 3)
        for _ in range(2):
            assert (await listener.json(STATS_TOPIC))["modules_connected"] == 1
        assert module.topics() == set()


ANONYMOUS = __import__("dataclasses").replace(
    SETTINGS, broker=__import__("dataclasses").replace(SETTINGS.broker, allow_anonymous=True)
)
AMQTT = __import__("dataclasses").replace(
    ANONYMOUS, hub=__import__("dataclasses").replace(SETTINGS.hub, engine="amqtt")
)


@pytest.mark.parametrize("live", [ANONYMOUS, AMQTT], indirect=True, ids=["native", "amqtt"])
async def test_not_even_where_anybody_may_everything(live):
    async with (
        LiveListener(
            live.hub.addresses["mqtt"], client_id="spy", topics=["#", "wd/v1/live/#", "+/v1/live/stats"]
        ) as spy,
        live.listening("stats") as listener,
        live.listening("fleet") as fleet,
        live.listening("module", serial="WD-01"),
    ):
        spy.client.publish(STATS_TOPIC, b"forged", qos=1, retain=True)
        spy.client.publish("wd/v1/m/WD-01/tele", json.dumps({"apparent_va": 5}), qos=1)
        spy.client.publish("other", b"seen")
        assert await spy.message("other") == b"seen"
        for _ in range(2):
            assert "statistics" in await listener.json(STATS_TOPIC)
        await fleet.message(FLEET_TOPIC)

        assert not [topic for topic in spy.topics() if topic.startswith("wd/v1/live")]


# What comes.


async def test_fleet_and_states_show_what_modules_said(live):
    async with live.module("WD-00") as first, live.module("WD-02") as thinned, live.listening("fleet") as fleet:
        say(first, "WD-00", apparent_va=1840, rssi_dbm=-61, frame_gap_ms=1012, state=8, drawn_wh=10)
        say(thinned, "WD-02", active_w=-410.5, rssi_dbm=-70)
        roster = decode_roster((await (await live.client()).get("/v1/fleet/roster")).content)
        frame = decode_fleet(await fleet.message(FLEET_TOPIC))
        while (frame.age_ms >= 0).sum() < 2:
            frame = decode_fleet(await fleet.message(FLEET_TOPIC))
        async with live.listening("states") as states:
            bare = decode_fleet(await states.message(STATES_TOPIC))

    assert roster.covers(frame)
    assert roster.is_current(frame)
    assert list(roster.serials) == [f"WD-{number:02}" for number in range(COUNT)]
    assert [roster.cities[number] for number in range(4)] == ["Nice", "Lyon", "Nice", "Lyon"]
    assert frame.number.tolist() == list(range(COUNT))
    # Consent decides what is shown of power; the rest is technical.
    assert [value for value in frame.power.tolist() if value == value] == [1840.0]
    assert (frame.power[0], frame.power_kind[0]) == (1840, 2)
    assert frame.rssi_dbm[[0, 1, 2]].tolist() == [-61, 0, -70]
    assert frame.frame_gap_ms[[0, 1]].tolist() == [1012, -1]
    assert frame.state[0] & 0xFFFF == 8
    assert frame.connected.tolist() == [number in {0, 2} for number in range(COUNT)]
    assert 0 <= frame.age_ms[0] < 5000
    assert frame.age_ms[1] == -1
    assert abs(frame.at_us - time.time_ns() // 1000) < 20e6
    assert bare.number.tolist() == frame.number.tolist()
    assert bare.rssi_dbm.tolist() == frame.rssi_dbm.tolist()
    assert not (bare.power == bare.power).any()


async def test_the_same_over_http(live):
    async with live.module("WD-00") as first:
        say(first, "WD-00", apparent_va=1840, rssi_dbm=-61)
        await until(lambda: live.hub.statistics()["ingest.received"] == 1)
        await until(lambda: live.hub.statistics()["ingest.waiting"] == 0)
        client = await live.client(Role.VIEWER, purpose=None)
        frame = decode_fleet((await client.get("/v1/fleet/latest")).content)
        assert frame.rssi_dbm[0] == -61
        assert not (frame.power == frame.power).any()
        assert frame.connected[0]
        assert (await client.get("/v1/fleet/power")).status_code == 403
        assert (await (await live.client(purpose=None)).get("/v1/fleet/power")).status_code == 403
        answer = await (await live.client()).get("/v1/fleet/power")
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    rows = pa.ipc.open_stream(answer.content).read_all()
    assert rows.column_names == ["number", "power", "power_kind"]
    assert rows.slice(0, 2).to_pylist() == [
        {"number": 0, "power": 1840.0, "power_kind": 2},
        {"number": 1, "power": None, "power_kind": None},
    ]


async def test_a_modules_own_readings_come_as_they_are_sent_and_nobody_elses(live):
    topic = module_topic("WD-01")
    async with (
        live.module("WD-01") as module,
        live.module("WD-03") as other,
        live.listening("module", serial="WD-01") as listener,
    ):
        found = []
        for number in range(1, 1000):
            say(module, "WD-01", seq=number, apparent_va=100 + number, voltage_v=231.4, drawn_wh=7, register=2)
            say(other, "WD-03", seq=number, apparent_va=9)
            # The feed begins to listen within a second.
            if listener.counted(topic) or number % 10 == 0:
                await asyncio.sleep(0.1)
            if listener.counted(topic) >= 3:
                break
        for _ in range(3):
            found += decode_readings(await listener.message(topic))

    assert listener.topics() <= {topic}
    assert [one.seq for one in found] == list(range(found[0].seq, found[0].seq + len(found)))
    assert {(one.power - one.seq, one.power_kind, one.voltage_v, one.drawn_wh, one.register) for one in found} == {
        (100.0, 2, 231.4, 7, 2)
    }
    assert all(one.rssi_dbm is None and not one.resent for one in found)


async def test_a_module_without_consent_is_not_shown(live):
    async with (
        live.module("WD-02") as module,
        live.listening("module", serial="WD-02") as listener,
        live.listening("stats") as stats,
    ):
        for _ in range(3):
            say(module, "WD-02", active_w=410)
            await stats.message(STATS_TOPIC)
        assert listener.topics() == set()


async def test_stats_tell_counters_and_fleet_power_from_indexes(live):
    async with contextlib.AsyncExitStack() as stack:
        listener = await stack.enter_async_context(live.listening("stats"))
        first = await listener.json(STATS_TOPIC)
        assert first["fleet_power_w"] is None
        modules = [
            (serial, await stack.enter_async_context(live.module(serial)))
            for serial in (f"WD-{number:02}" for number in range(COUNT))
        ]
        found = None
        for step in range(60):
            # 45 homes of which 44 let their index be seen each second: VA are no watts and are not added up.
            for serial, module in modules:
                say(module, serial, apparent_va=100_000, drawn_wh=1000 + step)
            found = await listener.json(STATS_TOPIC)
            if found["fleet_power_w"]:
                break

    # 44 homes draw a watt-hour a second or less: 158 kW.
    assert found["fleet_power_homes"] == COUNT - 1
    assert 10_000 < found["fleet_power_w"] < 400_000
    assert found["modules_connected"] == COUNT
    assert found["modules_fresh"] == COUNT
    assert found["statistics"]["messages.tele"] >= COUNT
    assert found["statistics"]["live.grants"] == 1


async def test_events_come_while_they_happen(live):
    async with live.listening("events") as listener, live.listening("stats") as stats:
        await stats.message(STATS_TOPIC)
        await stats.message(STATS_TOPIC)
        async with live.module("WD-01") as module:
            module.client.publish("wd/v1/m/WD-01/log", json.dumps({"level": "error", "text": "no frame"}), qos=1)
            found = []
            while len(found) < 2:
                found += await listener.json(EVENTS_TOPIC)

    assert [(one["module"], one["kind"]) for one in found[:2]] == [("WD-01", "connected"), ("WD-01", "log")]
    assert found[1]["details"] == {"level": "error", "text": "no frame"}


async def test_nothing_is_made_while_nobody_listens(live):
    grant = await live.grant("fleet")
    assert live.hub.statistics()["live.messages"] == 0
    async with live.listening("stats") as stats:
        for _ in range(2):
            await stats.message(STATS_TOPIC)
    sent = live.hub.statistics()["live.bytes"]
    # Two messages of counters, none of the fleet.
    assert live.hub.statistics()["live.messages"] <= 3
    async with LiveListener.of(grant) as listener:
        await listener.message(FLEET_TOPIC)
    assert live.hub.statistics()["live.bytes"] > sent


# Slow ones.


async def test_one_that_never_reads_costs_no_memory_and_nobody_else(live, monkeypatch):
    monkeypatch.setattr("app.services.live.feed.encode_picture", lambda _picture, *, with_power: bytes(600_000))
    monkeypatch.setattr("app.services.live.feed.EACH_S", 0.02)
    grant = await live.grant("fleet")
    stuck = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=grant["username"])
    stuck.username_pw_set(grant["username"], grant["token"])
    await asyncio.to_thread(stuck.connect, grant["host"], grant["port"])
    stuck.subscribe(FLEET_TOPIC)
    for _ in range(4):
        await asyncio.to_thread(stuck.loop, 0.1)
    async with LiveListener.of(grant) as healthy:
        for _ in range(60):
            assert len(await healthy.message(FLEET_TOPIC)) == 600_000
        stats = live.hub.statistics()
        assert stats["broker.dropped_slow"] >= 20
    # Its bytes that wait: at most the limit and one message more, whatever was sent meanwhile.
    assert _unsent(live) <= SETTINGS.broker.max_unsent_bytes + 700_000
    stuck.disconnect()


def _unsent(live):
    return max(
        (
            one._transport.get_write_buffer_size()
            for one in gc.get_objects()
            if isinstance(one, Connection) and one._transport
        ),
        default=0,
    )
