"""Modules and faults against a real hub that says it is simulated and follows the story's clock."""

import asyncio
import ssl
import time
import types

import pytest

from app.client.api_call import call
from app.hub.story_tools import StoryTools
from device_sim.faults.catalogue import fault_of
from device_sim.faults.fault import Target
from device_sim.modules.clock import WorldClock
from device_sim.modules.meter import Meter
from device_sim.modules.module import Module
from device_sim.modules.mqtt import Address
from device_sim.modules.power import SimpleHome
from device_sim.modules.spec import ModuleSpec
from device_sim.radio import AccessPoint, Radio, Spot
from tests.e2e.conftest import run_command

TOOLS = StoryTools()


@pytest.fixture
def demonstration(tmp_path):
    """A hub at ten times our speed with one module's place, and the module's credential."""
    world = WorldClock(10.0)
    home = types.SimpleNamespace(serial="SIM1", city="Lille", address="1 rue Nationale")
    (credential,) = TOOLS.prepare_demonstration(tmp_path / "data", [home], period_ms=2000)
    hub = TOOLS.start_demonstration(tmp_path / "data", scale=10.0, origin_us=world.origin_us)
    yield hub, credential, world, tmp_path / "data"
    hub.kill()


async def until(what, patience_s=20.0):
    async with asyncio.timeout(patience_s):
        while True:
            if found := await asyncio.to_thread(what):
                return found
            await asyncio.sleep(0.1)


def make_module(credential, world, address, tls=None):
    spec = ModuleSpec(credential.serial, credential.secret, period_ms=2000, keep_alive_s=10, tls=tls)
    radio = Radio(1, [(AccessPoint("a"), Spot(4, 0))])
    meter = Meter(1, SimpleHome(1), world.now_us())
    module = Module(spec, world, radio, meter, lambda: address)
    module.tally.ledger = set()
    return module


async def test_a_module_by_tls_its_commands_and_its_faults_as_the_api_shows_them(demonstration):
    hub, credential, world, data = demonstration
    context = ssl.create_default_context(cafile=TOOLS.ca_file(data))
    context.check_hostname = False
    host, port = hub.address("mqtts")
    module = make_module(credential, world, Address(host, port, context), context)
    life = asyncio.create_task(module.run())
    try:
        rows = await until(
            lambda: [
                row for row in TOOLS.ask(hub, "/v1/modules")["items"] if row["state"] == "live" and row["firmware"]
            ]
        )
        assert rows[0]["firmware"] == "2.4.1"
        assert TOOLS.ask(hub, "/v1/health")["simulated"] is True
        assert TOOLS.ask(hub, "/v1/version")["simulated"] is True

        sent = call(hub.api, "POST", "/v1/modules/SIM1/commands", token=hub.token, body={"name": "diagnose"})
        done = await until(
            lambda: (one := TOOLS.ask(hub, f"/v1/commands/{sent['id']}"))["state"] == "acknowledged" and one
        )
        assert "synchronised" in str(done)

        undo = fault_of("garbage").start(Target([module]), {"share": 1.0})
        await until(lambda: TOOLS.ask(hub, "/v1/statistics").get("refused.format", 0) >= 2)
        undo()

        fault_of("meter_exchanged").start(Target([module]))
        fault_of("index_jump_back").start(Target([module]))
        before = module.tally.acknowledged
        await until(lambda: module.tally.acknowledged > before + 4)
        ledger = sorted(module.tally.ledger)
        window = (("from_us", ledger[0] * 1000), ("to_us", ledger[-1] * 1000 + 1000))
        answer = TOOLS.ask(hub, "/v1/modules/SIM1/readings", window)
        at = answer["columns"].index("time")
        assert set(ledger) <= {row[at] // 1000 for row in answer["rows"]}
        # Module time and the hub's agree: both follow the story's clock, which is ahead of ours by now.
        assert abs(ledger[-1] * 1000 - world.now_us()) < 60_000_000
        assert ledger[-1] * 1000 > time.time_ns() // 1000 + 5_000_000
        assert not life.done()
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


async def test_a_wrong_secret_is_refused_until_the_module_is_paired_anew(demonstration):
    hub, credential, world, _data = demonstration
    wrong = types.SimpleNamespace(serial=credential.serial, secret="wrong")
    module = make_module(wrong, world, Address(*hub.address("mqtt")))
    life = asyncio.create_task(module.run())
    try:
        await until(lambda: module.tally.refused >= 1)
        assert not module.online
        module.pair_anew(credential.secret)
        await until(lambda: module.online)
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)


def test_a_demonstration_never_runs_on_real_data(tmp_path):
    TOOLS.provision(tmp_path / "real", ["WD1"])
    done = run_command("hub", "--data", tmp_path / "real", "--simulated")
    assert done.returncode == 2
    assert "not simulated" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--clock-scale", "10"), "give --simulated too"),
        (("--simulated", "--clock-scale", "0.5"), "from 1 to"),
        (("--simulated", "--clock-scale", "10", "--broker", "amqtt"), "--broker native"),
    ],
)
def test_a_real_hub_has_the_machines_clock(tmp_path, words, said):
    done = run_command("hub", "--data", tmp_path / "data", *words)
    assert done.returncode == 2
    assert said in done.stderr
