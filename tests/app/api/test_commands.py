"""Commands through a real hub: real HTTP, a real broker, modules that speak real MQTT."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

from app.domain.commands import CATALOGUE, MOST_OPEN_PER_MODULE
from app.domain.ids import new_id
from app.domain.people import Role
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.services.commands import delivery
from app.stores.registry.provisioning import Template
from app.stores.registry.records import Collection, ModuleKind
from app.stores.registry.registry import Registry
from broker.packets import V5, V311, Properties
from tests.app.api.conftest import SETTINGS, ApiTrial
from tests.helpers.mqtt_peer import RawClient

WAIT_S = 20
SERIALS = ("WD1", "WD2", "PAUSED", "RETIRED", "BLOCKED")


class Fleet:
    """A data directory with modules, and hubs on it one after the other."""

    def __init__(self, directory):
        self.directory = directory
        with Registry.open(directory.registry) as registry:
            self.secrets = {one.serial: one.secret for one in registry.provision_many(SERIALS)}
            registry.ensure_modules(["METER"], Template(kind=ModuleKind.METER, dialect="tic"))
            registry.ensure_modules(["SHELLY"], Template(kind=ModuleKind.FOREIGN, dialect="shelly"))
            registry.set_collection("PAUSED", Collection.PAUSED)
            registry.set_collection("RETIRED", Collection.RETIRED)
            registry.block("BLOCKED")

    @contextlib.asynccontextmanager
    async def hub(self):
        async with contextlib.AsyncExitStack() as stack:
            hub = await stack.enter_async_context(running_hub(self.directory, SETTINGS))
            yield Running(self, ApiTrial(hub, self.directory, stack))


class Running:
    """A hub on the fleet."""

    def __init__(self, fleet, trial):
        self.fleet = fleet
        self.trial = trial

    async def module(self, serial="WD1", *, version=V311, clean=True, keeps=False, subscribe=True):
        """A module that is connected; with `keeps` its session outlives the connection."""
        properties = Properties(session_expiry_s=3600) if keeps and version == V5 else Properties()
        client = await RawClient.connected(
            self.trial.hub.addresses["mqtt"][1],
            serial,
            version,
            username=serial,
            password=self.fleet.secrets[serial].encode(),
            clean_start=clean,
            properties=properties,
        )
        if subscribe:
            await client.subscribe((f"wd/v1/m/{serial}/cmd", 1))
        return client

    async def post(self, path, body=None, *, role=Role.ADMIN):
        return await (await self.trial.client(role)).post(path, json={} if body is None else body)

    async def get(self, path, **parameters):
        answer = await (await self.trial.client()).get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def send(self, serial="WD1", name="diagnose", **fields):
        answer = await self.post(f"/v1/modules/{serial}/commands", {"name": name, **fields})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    async def becomes(self, command_id, state):
        """Wait until a command has a state; the command."""
        async with asyncio.timeout(WAIT_S):
            while (found := await self.get(f"/v1/commands/{command_id}"))["state"] != state:  # noqa: ASYNC110 - as a client would
                await asyncio.sleep(0.005)
        return found

    def counts(self):
        return {
            name.removeprefix("commands."): value
            for name, value in self.trial.hub.statistics().items()
            if name.startswith("commands.")
        }

    async def counted(self, name, value):
        async with asyncio.timeout(WAIT_S):
            while self.counts()[name] != value:  # noqa: ASYNC110 - nobody tells of counters
                await asyncio.sleep(0.005)

    async def listens_no_more(self, serial="WD1"):
        """Wait until the hub has noticed that a module has gone."""
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await self.post(
                    "/v1/commands/bulk", {"name": "diagnose", "serials": [serial], "preview": True}
                )
                if answer.json()["now"] == []:
                    return
                await asyncio.sleep(0.005)


async def command(client, *, take=True):
    """The next command that a module gets, with its PUBACK unless told not to."""
    message = await client.message()
    if take:
        client.ack(message.packet_id)
    return json.loads(message.payload)


def answer(client, command_id, result="done", serial="WD1", **fields):
    payload = json.dumps({"id": command_id, "result": result, **fields}).encode()
    client.publish(f"wd/v1/m/{serial}/ack", payload, qos=1, packet_id=77)


@pytest.fixture
def fleet(tmp_path):
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    return Fleet(directory)


@pytest.fixture
async def hub(fleet):
    async with fleet.hub() as running:
        yield running


async def test_a_module_that_listens_gets_it_at_once_and_its_answer_is_kept(hub):
    module = await hub.module()
    command_id = await hub.send(name="set_period", arguments={"period_ms": 2000}, expires_in_s=60)
    got = await command(module)
    assert got["id"] == command_id
    assert (got["name"], got["args"]) == ("set_period", {"period_ms": 2000})
    assert 0 < got["expires_ms"] - time.time() * 1000 < 60_000

    answer(module, command_id, took_ms=12, data={"period_ms": 2000})
    found = await hub.becomes(command_id, "acknowledged")

    assert found["result"]["data"] == {"period_ms": 2000}
    assert found["sent_by"] == "test-admin"
    assert found["created_us"] <= found["sent_us"] <= found["done_us"]
    assert (await hub.get("/v1/modules/WD1/commands"))["items"] == [found]


async def test_one_that_is_away_gets_it_when_it_is_back_and_once(hub):
    command_id = await hub.send()
    assert (await hub.get(f"/v1/commands/{command_id}"))["state"] == "queued"

    module = await hub.module()
    assert (await command(module))["id"] == command_id
    answer(module, command_id)
    await hub.becomes(command_id, "acknowledged")
    await module.acknowledged()
    module.drop()
    await hub.listens_no_more()

    again = await hub.module()
    marker = await hub.send(name="identify")
    assert (await command(again))["id"] == marker, "nothing else came before"
    assert hub.counts()["sent_again"] == 0


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_session_that_is_kept_gets_it_once_also_when_it_was_away(hub, version):
    keeps = {"version": version, "clean": False, "keeps": True}
    first = await hub.module(**keeps)
    first.drop()
    await hub.listens_no_more()
    command_id = await hub.send()
    # The broker's queue must not have it as well.
    back = await hub.module(**keeps, subscribe=False)
    assert (await command(back))["id"] == command_id
    await back.subscribe(("wd/v1/m/WD1/cmd", 1))
    await back.nothing()
    answer(back, command_id)
    await hub.becomes(command_id, "acknowledged")


@pytest.mark.parametrize("version", [V311, V5])
async def test_what_the_broker_holds_of_a_kept_session_the_hub_does_not_send_again(hub, version):
    keeps = {"version": version, "clean": False, "keeps": True}
    first = await hub.module(**keeps)
    command_id = await hub.send()
    assert (await command(first, take=False))["id"] == command_id
    first.drop()
    await hub.listens_no_more()

    back = await hub.module(**keeps, subscribe=False)
    message = await back.message()
    assert json.loads(message.payload)["id"] == command_id
    assert message.dup, "the broker's own redelivery"
    back.ack(message.packet_id)
    await back.subscribe(("wd/v1/m/WD1/cmd", 1))
    marker = await hub.send(name="identify")
    assert (await command(back))["id"] == marker
    assert hub.counts()["sent_again"] == 0


async def test_without_an_answer_it_comes_again_with_the_same_id_on_a_new_connection(hub):
    first = await hub.module()
    command_id = await hub.send()
    assert (await command(first))["id"] == command_id
    await first.subscribe(("wd/v1/m/WD1/cmd", 1))
    await first.nothing()
    first.drop()
    await hub.listens_no_more()

    back = await hub.module()
    assert (await command(back))["id"] == command_id
    assert hub.counts()["sent_again"] == 1
    answer(back, command_id)
    await hub.becomes(command_id, "acknowledged")
    back.drop()
    await hub.listens_no_more()
    last = await hub.module()
    marker = await hub.send(name="identify")
    assert (await command(last))["id"] == marker


async def test_a_reboot_that_was_taken_never_comes_again(hub):
    first = await hub.module()
    taken = await hub.send(name="reboot")
    assert (await command(first))["id"] == taken
    await first.nothing()
    first.drop()
    await hub.listens_no_more()

    back = await hub.module()
    marker = await hub.send(name="identify")
    assert (await command(back))["id"] == marker


async def test_a_reboot_that_surely_did_not_arrive_does(hub):
    first = await hub.module()
    lost = await hub.send(name="reboot")
    await command(first, take=False)
    first.drop()
    await hub.listens_no_more()

    back = await hub.module()
    assert (await command(back))["id"] == lost


async def test_a_connection_that_does_not_listen_gets_nothing_until_it_does(hub):
    module = await hub.module(subscribe=False)
    command_id = await hub.send()
    await module.nothing()
    assert (await hub.get(f"/v1/commands/{command_id}"))["state"] == "queued"
    await module.subscribe(("wd/v1/m/WD1/cmd", 1))
    assert (await command(module))["id"] == command_id


async def test_what_nobody_fetched_expires(hub, monkeypatch):
    monkeypatch.setattr(delivery, "EXPIRE_EACH_S", 0.05)
    command_id = await hub.send(expires_in_s=1)
    found = await hub.becomes(command_id, "expired")
    assert found["sent_us"] is None
    module = await hub.module()
    marker = await hub.send(name="identify")
    assert (await command(module))["id"] == marker
    assert hub.counts()["expired"] == 1


async def test_answers_that_fit_nothing_are_counted_and_change_nothing(hub):
    module, other = await hub.module(), await hub.module("WD2")
    command_id = await hub.send()
    await command(module)
    answer(module, "c-0190a4")
    answer(module, new_id(0))
    answer(module, "\0")
    answer(other, command_id, serial="WD2")
    await hub.counted("answers_unknown", 4)
    answer(module, command_id, "refused", detail="no")
    found = await hub.becomes(command_id, "failed")
    assert found["result"]["detail"] == "no"
    answer(module, command_id)
    await hub.counted("answers_repeated", 1)
    assert (await hub.get(f"/v1/commands/{command_id}"))["state"] == "failed"


async def test_a_result_is_bounded(hub):
    module = await hub.module()
    command_id = await hub.send()
    await command(module)
    answer(module, command_id, data={f"k{number}": "x" * 500 for number in range(30)})
    found = await hub.becomes(command_id, "acknowledged")
    assert found["result"] == {"result": "done", "data_left_out": True}


async def test_a_queued_one_is_cancelled_and_a_sent_one_is_not(hub):
    queued = await hub.send()
    answered = await hub.post(f"/v1/commands/{queued}/cancel")
    assert (answered.status_code, answered.json()["state"]) == (200, "cancelled")
    module = await hub.module()
    sent = await hub.send()
    assert (await command(module))["id"] == sent, "the cancelled one is not sent"
    answered = await hub.post(f"/v1/commands/{sent}/cancel")
    assert answered.status_code == 409
    assert "only a queued one" in answered.json()["detail"]


@pytest.mark.parametrize(
    ("serial", "body", "status", "says"),
    [
        ("BLOCKED", {"name": "reboot"}, 409, "blocked"),
        ("RETIRED", {"name": "reboot"}, 409, "retired"),
        ("METER", {"name": "reboot"}, 409, "serial port"),
        ("SHELLY", {"name": "reboot"}, 409, "dialect"),
        ("NOBODY", {"name": "reboot"}, 404, "no module NOBODY"),
        ("%00", {"name": "reboot"}, 404, "no module"),
        ("WD1", {"name": "explode"}, 422, "reboot, diagnose"),
        ("WD1", {"name": "set_period"}, 422, "period_ms"),
        ("WD1", {"name": "reboot", "expires_in_s": 0}, 400, None),
        ("WD1", {"name": "reboot", "arguments": {"delay_s": 2**70}}, 400, None),
        ("WD1", {"name": "reboot", "more": 1}, 400, None),
    ],
)
async def test_what_can_not_be_sent_is_refused_with_a_sentence(hub, serial, body, status, says):
    answered = await hub.post(f"/v1/modules/{serial}/commands", body)
    assert answered.status_code == status, answered.text
    assert says is None or says in answered.json()["detail"]
    assert (await hub.get("/v1/commands"))["total"] == 0


async def test_who_may_send_what(hub):
    body = {"name": "set_period", "arguments": {"period_ms": 1000}}
    assert (await hub.post("/v1/modules/WD1/commands", {"name": "reboot"}, role=Role.VIEWER)).status_code == 403
    assert (await hub.post("/v1/modules/WD1/commands", {"name": "reboot"}, role=Role.TECHNICIAN)).status_code == 201
    refused = await hub.post("/v1/modules/WD1/commands", body, role=Role.TECHNICIAN)
    assert (refused.status_code, "fleet:write" in refused.json()["detail"]) == (403, True)
    assert (await hub.post("/v1/modules/WD1/commands", body, role=Role.SUPPORT)).status_code == 201
    everyone = await hub.post("/v1/commands/bulk", {"name": "reboot", "all": True}, role=Role.TECHNICIAN)
    assert everyone.status_code == 403


async def test_a_module_has_a_bounded_number_open(hub):
    for _ in range(MOST_OPEN_PER_MODULE):
        await hub.send()
    answered = await hub.post("/v1/modules/WD1/commands", {"name": "diagnose"})
    assert answered.status_code == 409
    assert "100 commands open" in answered.json()["detail"]
    module = await hub.module()
    ids = {(await command(module))["id"] for _ in range(MOST_OPEN_PER_MODULE)}
    assert len(ids) == MOST_OPEN_PER_MODULE


async def test_the_catalogue(hub):
    kinds = await hub.get("/v1/command-kinds")
    assert [kind["name"] for kind in kinds] == [kind.name for kind in CATALOGUE]
    (period,) = next(kind for kind in kinds if kind["name"] == "set_period")["arguments"]
    assert (period["kind"], period["minimum"], period["required"]) == ("int", 100, True)


async def test_a_bulk_says_before_who_gets_it_and_then_how_it_goes(hub):
    module = await hub.module()
    serials = [*SERIALS, "METER", "SHELLY", "NOBODY", "\0", "WD1"]
    body = {"name": "diagnose", "serials": serials}
    preview = (await hub.post("/v1/commands/bulk", body | {"preview": True})).json()
    assert (preview["bulk_id"], preview["now"], preview["when_back"]) == (None, ["WD1"], ["WD2"])
    reasons = {one["reason"]: one["serials"] for one in preview["left_out"]}
    assert reasons == {
        "unknown": ["\0", "NOBODY"],
        "paused": ["PAUSED"],
        "retired": ["RETIRED"],
        "blocked": ["BLOCKED"],
        "meter": ["METER"],
        "dialect": ["SHELLY"],
    }
    assert (await hub.get("/v1/commands"))["total"] == 0, "a preview sends nothing"

    sent = (await hub.post("/v1/commands/bulk", body)).json()
    assert {name: sent[name] for name in sent if name != "bulk_id"} == {
        name: preview[name] for name in preview if name != "bulk_id"
    }
    bulk = f"/v1/commands/bulk/{sent['bulk_id']}"
    got = await command(module)
    answer(module, got["id"])
    await hub.becomes(got["id"], "acknowledged")
    found = await hub.get(bulk, sort="module")
    assert found["counts"] == {"acknowledged": 1, "queued": 1}
    assert [(one["module"], one["state"]) for one in found["commands"]["items"]] == [
        ("WD1", "acknowledged"),
        ("WD2", "queued"),
    ]
    assert (await hub.get(bulk, filter="state:eq:queued"))["commands"]["total"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {"name": "diagnose"},
        {"name": "diagnose", "all": True, "serials": ["WD1"]},
        {"name": "diagnose", "serials": ["WD1"], "filter": {"tag": "x"}},
        {"name": "diagnose", "all": True, "filter": {"tag": "\0"}},
        {"name": "explode", "all": True},
        {"name": "set_period", "all": True, "preview": True},
    ],
)
async def test_a_bulk_that_makes_no_sense_is_refused(hub, body):
    answered = await hub.post("/v1/commands/bulk", body)
    assert answered.status_code == 422, answered.text


async def test_a_bulk_for_nobody_is_refused(hub):
    answered = await hub.post("/v1/commands/bulk", {"name": "diagnose", "all": True, "filter": {"city": "Nowhere"}})
    assert answered.status_code == 409
    answered = await hub.post("/v1/commands/bulk", {"name": "diagnose", "serials": ["METER"]})
    assert "serial port" in answered.json()["detail"]
    assert (await (await hub.trial.client()).get(f"/v1/commands/bulk/{new_id(0)}")).status_code == 404


@pytest.mark.parametrize("query", ["state:eq:%00", "created_us:gt:4611686018427387903", "bulk_id:in:a|b"])
async def test_lists_take_any_filter(hub, query):
    client = await hub.trial.client()
    assert (await client.get(f"/v1/commands?filter={query}")).json()["items"] == []


async def test_a_restart_between_queued_and_delivery_loses_nothing(fleet):
    async with fleet.hub() as hub:
        waiting = await hub.send()
        module = await hub.module("WD2")
        sent = await hub.send("WD2")
        await command(module)
    async with fleet.hub() as hub:
        assert (await hub.get(f"/v1/commands/{sent}"))["state"] == "sent"
        module, other = await hub.module(), await hub.module("WD2")
        assert (await command(module))["id"] == waiting
        assert (await command(other))["id"] == sent, "it was not answered"
        answer(other, sent, serial="WD2")
        await hub.becomes(sent, "acknowledged")


async def test_a_kept_session_gets_it_once_over_a_restart_of_the_hub(fleet):
    keeps = {"version": V5, "clean": False, "keeps": True}
    async with fleet.hub() as hub:
        module = await hub.module(**keeps)
        command_id = await hub.send()
        await command(module, take=False)
        await hub.becomes(command_id, "sent")
        module.drop()
        await hub.listens_no_more()
    async with fleet.hub() as hub:
        module = await hub.module(**keeps, subscribe=False)
        assert (await command(module))["id"] == command_id
        await module.subscribe(("wd/v1/m/WD1/cmd", 1))
        await module.nothing()
        assert hub.counts()["sent_again"] == 0, "the broker brought it"


async def test_a_registry_that_fails_for_a_while_delays_commands_and_loses_none(hub, monkeypatch):
    from app.stores.registry.commands import CommandBook
    from app.stores.registry.faults import RegistryBusy

    monkeypatch.setattr(delivery, "RETRY_S", 0.01)
    module = await hub.module()
    real_take, real_answer, failures = CommandBook.take, CommandBook.answer, [3]

    def failing(real):
        def call(*args):
            if failures[0]:
                failures[0] -= 1
                raise RegistryBusy("here", "test")
            return real(*args)

        return call

    monkeypatch.setattr(CommandBook, "take", failing(real_take))
    monkeypatch.setattr(CommandBook, "answer", failing(real_answer))
    command_id = await hub.send()
    assert (await command(module))["id"] == command_id
    failures[0] = 2
    answer(module, command_id)
    await hub.becomes(command_id, "acknowledged")
    assert failures == [0]


async def test_a_bulk_of_three_thousand(tmp_path):
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    fleet = Fleet(directory)
    serials = [f"M{number:04}" for number in range(3000)]
    with Registry.open(directory.registry) as registry:
        fleet.secrets |= {one.serial: one.secret for one in registry.provision_many(serials)}
    async with fleet.hub() as hub:
        here = {serial: await hub.module(serial) for serial in serials[:200]}
        sent = (await hub.post("/v1/commands/bulk", {"name": "diagnose", "all": True})).json()
        assert (sent["now_count"], sent["when_back_count"]) == (200, 2802)
        assert sent["left_out_count"] == 5
        assert set(sent["now"]) == set(here)

        async def work(serial, client):
            got = await command(client)
            answer(client, got["id"], serial=serial)
            return got["id"]

        ids = await asyncio.gather(*(work(serial, client) for serial, client in here.items()))
        assert len(set(ids)) == 200
        await hub.counted("acknowledged", 200)
        # So many are queued by a job, step by step.
        await hub.counted("queued", 3002)
        found = await hub.get(f"/v1/commands/bulk/{sent['bulk_id']}", limit=1000, offset=2500)
        assert found["counts"] == {"acknowledged": 200, "queued": 2802}
        assert (len(found["commands"]["items"]), found["commands"]["total"]) == (502, 3002)
        # One that comes later gets its own.
        late = await hub.module(serials[2999])
        assert (await command(late))["name"] == "diagnose"
        assert hub.counts()["sent"] == 201
        assert hub.counts()["queued"] == 3002
