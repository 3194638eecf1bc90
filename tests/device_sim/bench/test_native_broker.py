"""The load processes against our own broker: every reading reaches the sink once, in order, and is acknowledged after it."""

from __future__ import annotations

import asyncio
import collections
import json

import pytest

from broker.engine import Access
from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener
from device_sim.bench import rig
from device_sim.bench.payload import FIRST_SEQ
from device_sim.bench.plan import Run
from device_sim.bench.process import LoadGroup
from tests.device_sim.bench.recording_hub import Provisioned

FLEET = [Provisioned(serial, f"secret of {serial}") for serial in rig.serials(20)]


class Registry:
    def authenticate(self, listener, client_id, username, password):
        known = any(module == (username, (password or b"").decode()) for module in FLEET)
        return Access(username, "module", publish=(f"wd/v1/m/{username}/tele",)) if known else None


class Sink:
    def __init__(self):
        self.readings = collections.defaultdict(list)

    def open_topic(self, client, topic):
        return client.access.subject

    def accept(self, batch):
        for serial, payload in zip(batch.handles, batch.payloads, strict=True):
            self.readings[serial].append(json.loads(payload)["seq"])
        batch.acknowledge()

    def client_connected(self, client): ...

    def client_subscribed(self, client, pattern, held): ...

    def client_disconnected(self, client, cause): ...


def load(address, qos):
    with LoadGroup(rig.plan_for(address, FLEET)) as group:
        rig.connect_all(group)
        ran = group.run(Run(rate=4_000, seconds=0.4, qos=qos, reconnects_per_s=20))
        return ran, group.finish()


@pytest.mark.parametrize("qos", [0, 1])
async def test_every_reading_reaches_the_sink_in_order(qos, tmp_path):
    sink = Sink()
    broker = NativeBroker(
        BrokerOptions(), [Listener("mqtt", 0, ("127.0.0.1",))], Registry(), sink, data_dir=tmp_path / "broker"
    )
    await broker.start()
    try:
        ran, finished = await asyncio.to_thread(load, broker.addresses()["mqtt"], qos)
    finally:
        await broker.stop()

    rounds = ran.offered // len(FLEET)
    assert finished.unacked == finished.unclosed == 0
    assert ran.acked + finished.unacked <= ran.offered
    assert sink.readings == {module.serial: list(range(FIRST_SEQ, FIRST_SEQ + rounds)) for module in FLEET}
    assert ran.reconnects > 0
