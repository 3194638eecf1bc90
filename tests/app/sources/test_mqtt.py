"""The broker's sink: what becomes of a batch, and when it is acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from app.protocol.codec import encode_cbor, encode_json
from app.protocol.messages import State, Tele
from app.protocol.topics import Kind
from app.sources import mqtt
from app.sources.mqtt import ModuleHandle, MqttSource
from broker.engine import Access, ClientInfo
from tests.app.ingest.readings import NOW_MS, NOW_US, FakeBatch

CLIENT = ClientInfo("c", Access("c", "module"), "127.0.0.1", "mqtt", 4)
ONE = encode_json(Tele(time_ms=NOW_MS, seq=1))
TWO = encode_cbor([Tele(time_ms=NOW_MS, seq=2), Tele(time_ms=NOW_MS, seq=3)])


class Sink:
    """Remembers what it was given; `commit` acknowledges as ingest does."""

    def __init__(self):
        self.taken = []
        self.promised = []

    def take(self, slots, readings, arrival_us, *, guaranteed=None):
        self.taken += [(slot, reading.seq) for slot, reading in zip(slots, readings, strict=True)]
        if guaranteed is not None:
            self.promised.append(guaranteed)

    def acknowledge_later(self, batch):
        self.promised.append(batch)

    def commit(self):
        promised, self.promised = self.promised, []
        for batch in promised:
            batch.acknowledge()


class Refusals:
    def __init__(self):
        self.reasons = []

    def put(self, arrival_us, module, kind, reason, detail, payload):
        self.reasons.append((module, reason))


class World:
    """A source with its surroundings; `slots` is what the directory knows."""

    def __init__(self, *, adopts=False):
        self.slots = {"A": 0, "B": 1}
        self.sink = Sink()
        self.refusals = Refusals()
        self.messages = []
        self.wanted = []
        self.forgotten = 0
        self.source = MqttSource(
            self.slots.get,
            self.sink,
            self.refusals,
            serial_of=lambda slot: {number: serial for serial, number in self.slots.items()}[slot],
            on_message=lambda *what: self.messages.append(what),
            adopt=self.wanted.append if adopts else None,
        )
        self.source.forget_topics = self._forget

    def topic(self, serial, kind="tele"):
        return self.source.open_topic(CLIENT, f"wd/v1/m/{serial}/{kind}")

    def accept(self, *messages, qos=0):
        """A batch of (handle, payload)."""
        batch = FakeBatch(*zip(*messages, strict=True), [qos > 0] * len(messages))
        self.source.accept(batch)
        return batch

    def _forget(self):
        self.forgotten += 1


def test_the_handle_of_a_known_module_is_its_slot():
    world = World()

    assert (world.topic("A"), world.topic("B")) == (0, 1)
    assert isinstance(world.topic("A", "state"), ModuleHandle)
    assert isinstance(world.topic("UNKNOWN"), ModuleHandle)
    assert [world.source.open_topic(CLIENT, topic) for topic in ("wd/v1/m/A/cmd", "other", "wd/v1/m//tele")] == [
        None
    ] * 3


@pytest.mark.parametrize("qos", [0, 1])
def test_readings_of_known_modules_are_taken_together(qos):
    world = World()
    batch = world.accept((0, ONE), (1, ONE), qos=qos)

    assert world.sink.taken == [(0, 1), (1, 1)]
    assert world.sink.promised == ([batch] if qos else [])
    assert batch.acknowledged == 0
    assert world.source.counts["tele"] == 2


def test_one_bad_payload_costs_the_others_nothing():
    world = World()
    batch = world.accept((0, ONE), (1, b"{"), (1, b""), (0, TWO), (1, b"\x07"), qos=1)
    world.sink.commit()

    assert world.sink.taken == [(0, 1), (0, 2), (0, 3)]
    assert world.refusals.reasons == [("B", "syntax"), ("B", "empty"), ("B", "format")]
    assert batch.acknowledged == 1


def test_a_batch_without_a_reading_is_acknowledged_too():
    world = World()
    state = encode_json(State(firmware="1.2"))
    batch = world.accept((world.topic("A", "state"), state), (world.topic("A", "state"), b""), (0, b"?"), qos=1)
    world.sink.commit()

    assert batch.acknowledged == 1
    assert [(serial, kind, message.firmware) for serial, _slot, kind, message, _at in world.messages] == [
        ("A", Kind.STATE, "1.2")
    ]


def test_messages_of_unknown_modules_are_refused_where_nobody_adopts():
    world = World()
    batch = world.accept((world.topic("NEW"), ONE), (0, ONE), qos=1)
    world.sink.commit()

    assert world.refusals.reasons == [("NEW", "unknown_module")]
    assert world.sink.taken == [(0, 1)]
    assert batch.acknowledged == 1


def test_a_module_registered_after_it_connected_is_heard_and_gets_the_short_way():
    world = World()
    handle = world.topic("NEW")
    world.accept((handle, ONE))
    world.slots["NEW"] = 2
    world.accept((handle, ONE))

    assert world.sink.taken == [(2, 1)]
    assert world.forgotten == 0
    world.source.adopted()
    assert world.forgotten == 1
    assert world.topic("NEW") == 2
    world.source.adopted()
    assert world.forgotten == 1


def test_only_the_messages_of_the_unknown_module_wait():
    world = World(adopts=True)
    batch = world.accept((world.topic("NEW"), ONE), (0, ONE), qos=1)

    assert world.wanted == ["NEW"]
    assert world.sink.taken == [(0, 1)], "the others do not wait"
    world.sink.commit()
    assert batch.acknowledged == 0, "a part of it is not stored"
    world.slots["NEW"] = 2
    world.source.adopted()
    assert world.sink.taken == [(0, 1), (2, 1)]
    assert batch.acknowledged == 0
    world.sink.commit()
    assert batch.acknowledged == 1


def test_what_is_still_unknown_waits_on():
    world = World(adopts=True)
    batch = world.accept((world.topic("NEW"), ONE), (world.topic("OTHER"), TWO), qos=1)
    world.slots["OTHER"] = 3
    world.source.adopted()
    world.sink.commit()

    assert world.sink.taken == [(3, 2), (3, 3)]
    assert (world.source.postponed, batch.acknowledged) == (1, 0)
    assert world.wanted == ["NEW", "OTHER", "NEW"], "it is asked for again"


@pytest.mark.parametrize("bound", ["MOST_POSTPONED", "MOST_POSTPONED_BYTES"])
def test_what_waits_is_bounded(monkeypatch, bound):
    monkeypatch.setattr(mqtt, bound, 3 if bound == "MOST_POSTPONED" else 2 * len(ONE) + 1)
    world = World(adopts=True)
    handle = world.topic("NEW")
    batches = [world.accept((handle, ONE), qos=1) for _ in range(10)]
    world.sink.commit()

    assert world.source.postponed == 3
    assert world.refusals.reasons == [("NEW", "unknown_module")] * 7
    assert [batch.acknowledged for batch in batches] == [0] * 3 + [1] * 7


async def test_a_whole_fleet_that_waited_is_taken_over_several_turns_of_the_loop():
    world = World(adopts=True)
    handle = world.topic("NEW")
    for _ in range(30):
        world.accept(*[(handle, ONE)] * 100)
    world.slots["NEW"] = 2
    world.source.adopted()

    assert 0 < len(world.sink.taken) < 3000
    for _turn in range(3000 // 500):
        await asyncio.sleep(0)
    assert len(world.sink.taken) == 3000
    assert world.forgotten == 1


def test_arrival_is_the_batchs(monkeypatch):
    world = World(adopts=True)
    arrivals = []
    monkeypatch.setattr(world.sink, "take", lambda _s, _r, arrival_us, guaranteed=None: arrivals.append(arrival_us))
    world.accept((world.topic("NEW"), ONE))
    world.slots["NEW"] = 2
    world.source.adopted()

    assert arrivals == [NOW_US]


def test_what_a_broker_had_kept_is_no_reading_and_is_acknowledged():
    world = World()
    old = []
    world.source._on_message = lambda serial, *_rest: old.append((serial, world.source.is_old_news))
    state = encode_json(State(firmware="1.2"))
    batch = FakeBatch(
        (0, world.topic("A", "state"), world.topic("B", "state"), 1), (ONE, state, state, ONE), [True] * 4
    )
    batch.retained = (True, True, False, False)
    world.source.accept(batch)
    world.sink.commit()

    assert world.sink.taken == [(1, 1)]
    assert old == [("A", True), ("B", False)]
    assert world.source.counts["old_news"] == 1
    assert batch.acknowledged == 1
    assert not world.source.is_old_news
