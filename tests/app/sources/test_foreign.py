"""What becomes of messages of others' modules: readings, facts, presence; bounded, and never an error past the border."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.liveness import LIVENESS, liveness
from app.domain.reading import Reading
from app.ingest.live import LiveState
from app.protocol.foreign import Facts, Presence
from app.protocol.messages import Cmd, Log
from app.protocol.topics import Kind
from app.sources import foreign as foreign_module
from app.sources.foreign import ForeignHandle, ForeignSource
from app.sources.known_devices import WRITE_PASSING_EACH_US, Device, KnownDevices
from app.sources.mqtt import MqttSource
from app.sources.presence import ForeignPresence
from app.stores.registry.records import DeviceStanding, DeviceState
from tests.app.ingest.readings import NOW_US, FakeBatch
from tests.app.sources.test_mqtt import CLIENT, ONE, Sink
from tests.helpers.fake_dialect import FakeDialect, fake_dialects

SECOND_US = 1_000_000


class Refusals:
    """Remembers what was kept, and what was only counted."""

    def __init__(self):
        self.kept = []
        self.counted = 0

    def put(self, arrival_us, module, kind, reason, detail, payload):
        self.kept.append((module, kind, reason))

    def count(self, reason, messages):
        self.counted += messages


class World:
    """A source of ours with one of others behind it; `slots` is what the directory knows."""

    def __init__(self):
        self.dialect = FakeDialect()
        self.slots = {"A": 0}
        self.sink = Sink()
        self.sink.readings = []
        self.refusals = Refusals()
        self.presence = ForeignPresence()
        self.live = LiveState()
        self.messages = []
        self.came_and_went = []
        self.source = ForeignSource(
            fake_dialects(self.dialect),
            self.slots.get,
            self,
            self.refusals,
            presence=self.presence,
            show_rssi=self.live.put_rssi,
        )
        self.source.on_presence.append(lambda serial, online, _at: self.came_and_went.append((serial, online)))
        self.ours = MqttSource(
            self.slots.get,
            self,
            self.refusals,
            serial_of=lambda slot: "A",
            on_message=lambda serial, slot, kind, message, _at: self.messages.append((serial, slot, kind, message)),
            foreign=self.source,
        )
        self.taken = []

    def take(self, slots, readings, arrival_us, *, guaranteed=None):
        self.taken += zip(slots, readings, strict=True)
        if guaranteed is not None:
            self.sink.promised.append(guaranteed)

    def acknowledge_later(self, batch):
        self.sink.promised.append(batch)

    def adopt(self, device, slot):
        self.slots[device] = slot
        self.source.known.heard("fake", device, NOW_US)
        self.source.put(DeviceStanding("fake", device, DeviceState.ADOPTED, device), NOW_US)

    def batch(self, *messages, guaranteed=False, retained=None, at_us=NOW_US):
        handles = [self.ours.open_topic(CLIENT, topic) for topic, _payload in messages]
        assert None not in handles
        payloads = [payload for _topic, payload in messages]
        batch = FakeBatch(handles, payloads, [guaranteed] * len(payloads), at_us)
        if retained is not None:
            batch.retained = retained
        self.ours.accept(batch)
        return batch

    def say(self, device, what, said, **more):
        payload = said if isinstance(said, bytes) else msgspec.json.encode(said)
        return self.batch((f"fake/{device}/{what}", payload), **more)


@pytest.fixture
def world():
    return World()


def test_readings_of_adopted_devices_alone_are_taken(world):
    world.adopt("plug", 3)
    world.say("plug", "read", Reading(active_w=1.0))
    world.say("other", "read", Reading(apparent_va=2.0))

    assert world.taken == [(3, Reading(active_w=1.0))]
    assert world.source.counts["unadopted"] == 1
    assert world.source.known.heard("fake", "other", NOW_US).power_kind == "VA"
    assert world.refusals.kept == []


def test_ours_in_the_same_batch_go_as_ever_and_all_is_acknowledged_after_the_commit(world):
    world.adopt("plug", 3)
    batch = world.batch(
        ("wd/v1/m/A/tele", ONE),
        ("fake/plug/read", msgspec.json.encode(Reading(active_w=1.0))),
        ("wd/v1/m/A/log", b'{"text":"hi"}'),
        ("fake/other/read", b"{"),
        guaranteed=True,
    )

    assert sorted(slot for slot, _reading in world.taken) == [0, 3]
    assert ("A", 0, Kind.LOG, Log(text="hi")) in world.messages
    assert batch.acknowledged == 0
    world.sink.commit()
    assert batch.acknowledged == 1


def test_one_bad_reading_of_ours_costs_nobody_anything_else(world):
    world.adopt("plug", 3)
    good = msgspec.json.encode(Reading(active_w=1.0))
    world.batch(("wd/v1/m/A/tele", b"{"), ("fake/plug/read", good), ("wd/v1/m/A/tele", ONE))

    assert sorted(slot for slot, _reading in world.taken) == [0, 3]
    assert [reason for _module, _kind, reason in world.refusals.kept] == ["syntax"]


def test_a_batch_without_readings_is_acknowledged_too(world):
    batch = world.say("stranger", "facts", Facts(model="X"), guaranteed=True)
    world.sink.commit()

    assert batch.acknowledged == 1


def test_retained_messages_of_an_external_broker_are_old_news(world):
    world.adopt("plug", 3)
    world.say("plug", "read", Reading(active_w=1.0), retained=[True])
    world.say("plug", "online", b"true", retained=[True])

    assert world.taken == []
    assert world.dialect.retained == [True, True]
    assert world.presence.here(4).tolist() == [False, False, False, True]
    # It was there before this hub was: nothing has happened now.
    assert world.came_and_went == []
    world.say("plug", "online", b"false")
    assert world.came_and_went == [("plug", False)]


def test_a_signal_told_apart_goes_with_one_reading_and_is_shown_at_once(world):
    world.adopt("plug", 3)
    world.say("plug", "facts", Facts(rssi_dbm=-70, link_quality=200))
    assert world.live.rssi_dbm[3] == -70
    for _ in range(2):
        world.say("plug", "read", Reading(active_w=1.0))
    world.say("plug", "facts", Facts(rssi_dbm=-80))
    world.say("plug", "read", Reading(active_w=1.0, rssi_dbm=-60))

    assert [reading.rssi_dbm for _slot, reading in world.taken] == [-70, None, -60]


def test_the_link_quality_of_zigbee_is_no_signal(world):
    world.adopt("bulb", 3)
    world.say("bulb", "facts", Facts(link_quality=255))
    world.say("bulb", "facts", Facts(rssi_dbm=0))
    world.say("bulb", "facts", Facts(rssi_dbm=60))
    world.say("bulb", "read", Reading(active_w=1.0))

    assert world.taken[0][1].rssi_dbm is None
    assert len(world.live.rssi_dbm) == 0 or world.live.rssi_dbm[3] == 0


def test_facts_heard_before_its_adoption_are_told_with_it_and_parts_add_up(world):
    world.say("plug", "facts", Facts(model="P1", firmware="1"))
    world.say("plug", "facts", Facts(bssid="aa", channel=6))
    world.adopt("plug", 3)
    world.say("plug", "facts", Facts(uptime_s=5))
    world.say("plug", "facts", Facts(firmware="2"))

    births = [message for _serial, _slot, kind, message in world.messages if kind is Kind.STATE]
    assert [(one.hardware, one.firmware, one.bssid, one.channel) for one in births] == [
        ("P1", "1", "aa", 6),
        ("P1", "2", "aa", 6),
    ]


def test_what_waits_for_a_slot_is_told_when_it_is_there(world):
    world.say("plug", "facts", Facts(model="P1"))
    world.source.put(DeviceStanding("fake", "plug", DeviceState.ADOPTED, "plug"), NOW_US)
    assert world.messages == []
    world.slots["plug"] = 3
    world.source.adopted(NOW_US)

    assert [message.hardware for *_, message in world.messages] == ["P1"]


def test_an_ignored_device_teaches_nothing(world):
    world.source.known.heard("fake", "plug", NOW_US)
    world.source.put(DeviceStanding("fake", "plug", DeviceState.IGNORED, None), NOW_US)
    world.say("plug", "facts", Facts(model="P1"))
    world.say("plug", "read", Reading(active_w=1.0))

    assert world.source.known.heard("fake", "plug", NOW_US).facts == {}
    assert (world.source.counts["ignored"], world.source.counts["unadopted"]) == (1, 0)


def test_a_module_that_is_ignored_gets_no_more(world):
    world.adopt("plug", 3)
    world.say("plug", "online", b"true")
    world.source.put(DeviceStanding("fake", "plug", DeviceState.IGNORED, None), NOW_US)
    world.say("plug", "read", Reading(active_w=1.0))

    assert (world.taken, "plug" in world.ours.commands) == ([], False)
    assert not world.presence.here(4)[3]


def test_who_is_on_the_line_of_commands_follows_presence(world):
    world.adopt("plug", 3)
    line = world.ours.commands
    assert "plug" not in line
    world.say("plug", "read", Reading(active_w=1.0))
    assert (line.take_begun(), "plug" in line) == (["plug"], True)
    world.say("plug", "online", b"false")
    assert "plug" not in line
    world.say("plug", "online", b"true")
    assert line.take_begun() == ["plug"]
    assert world.came_and_went == [("plug", False), ("plug", True)]


def test_a_reading_that_waited_does_not_bring_back_who_is_gone(world):
    world.adopt("plug", 3)
    world.say("plug", "part", Reading(active_w=1.0))
    world.say("plug", "online", b"false")
    world.source.due(NOW_US + SECOND_US)

    assert [slot for slot, _reading in world.taken] == [3]
    assert world.presence.gone(4)[3]


def test_commands_are_the_dialects_words_and_only_for_modules(world):
    world.adopt("plug", 3)
    reboot = Cmd("1", "reboot")
    assert [one.topic for one in world.source.sendings("plug", reboot)] == [
        "fake-cmnd/plug/prepare",
        "fake-cmnd/plug/reboot",
    ]
    assert world.source.sendings("plug", Cmd("1", "identify")) is None
    assert world.source.sendings("A", reboot) is None


def test_a_fault_of_a_dialect_costs_its_message_alone(world):
    world.adopt("plug", 3)
    batch = world.batch(
        ("fake/plug/bug", b"x"), ("fake/plug/read", msgspec.json.encode(Reading(active_w=1.0))), guaranteed=True
    )

    assert world.refusals.kept == [("", "fake", "bug")]
    assert [slot for slot, _reading in world.taken] == [3]
    world.sink.commit()
    assert batch.acknowledged == 1


def test_refusals_of_strangers_do_not_flood_the_quarantine(world):
    world.adopt("plug", 3)
    for number in range(100):
        world.say(f"d{number}", "read", b"{")
    world.say("plug", "read", b"{")

    assert len(world.refusals.kept) == 21
    assert world.refusals.kept[-1][0] == "plug"
    assert world.refusals.counted == 80
    world.source.due(NOW_US)
    world.say("again", "read", b"{")
    assert len(world.refusals.kept) == 22


def test_devices_that_are_remembered_are_bounded(world):
    world.source.known = KnownDevices(most=2)
    for name in ("a", "b", "c"):
        world.say(name, "read", Reading(active_w=1.0))
    assert (len(world.source.known), world.source.counts["too_many"]) == (2, 1)
    world.source.forget("fake", "a")
    world.say("c", "read", Reading(active_w=1.0))

    assert (len(world.source.known), world.dialect.forgotten) == (2, ["a"])


def test_topics_that_nobody_claims_are_bounded_and_asked_for_again(world, monkeypatch):
    monkeypatch.setattr(foreign_module, "_MOST_UNCLAIMED", 3)
    asked = []
    world.ours.forget_topics = lambda: asked.append(1)
    for number in range(5):
        assert world.ours.open_topic(CLIENT, f"named/{number}") is None
    world.source.due(NOW_US)
    world.dialect.claimed["named/0"] = "plug"
    world.source.due(NOW_US)
    assert asked == []
    world.dialect.claimed["named/4"] = "plug"
    world.source.due(NOW_US)

    assert asked == [1]
    assert isinstance(world.ours.open_topic(CLIENT, "named/4"), ForeignHandle)


@pytest.mark.parametrize("topic", ["wd/v1/m/A/cmd", "wd/v1/m/A/other", "wd/v1/live/x", "wd/fake/x"])
def test_topics_of_ours_are_no_dialects(world, topic):
    world.dialect.claims = lambda _topic: True

    assert world.ours.open_topic(CLIENT, topic) is None


def test_the_usual_period_is_learned_from_arrivals():
    device = Device("fake", "plug", 0)
    changes = [device.arrived(at_s * SECOND_US) for at_s in (0, 300, 600, 901, 1200)]
    assert (changes, device.usual_us) == ([False, False, True, False, False], 300 * SECOND_US)
    # A gap is no period.
    assert not device.arrived(5000 * SECOND_US)
    assert [device.arrived((5000 + 10 * n) * SECOND_US) for n in range(1, 9)].count(True) >= 1
    assert device.usual_us == 10 * SECOND_US


def test_a_device_is_offline_by_its_will_or_by_its_age():
    words = liveness(
        heard=np.ones(4, bool),
        session_open=np.array([True, False, False, True]),
        sessionless=np.ones(4, bool),
        age_us=np.array([1, 1, 61, 400]) * SECOND_US,
        period_us=np.array([0, 0, 0, 300]) * SECOND_US,
        gap_us=np.full(4, -1),
        gone=np.array([False, True, False, False]),
    )

    assert [LIVENESS[word] for word in words] == ["live", "offline", "offline", "live"]


def test_what_changes_always_is_written_now_and_then_only():
    known = KnownDevices()
    device = known.heard("fake", "plug", NOW_US)
    device.learn(Facts(model="P1"))
    known.touched(device)
    assert [one.model for one in known.take_unwritten(10)] == ["P1"]
    device.learn(Facts(model="P1", uptime_s=7, rssi_dbm=-50))
    known.touched(device)
    assert known.unwritten == 0
    device.last_seen_us += WRITE_PASSING_EACH_US
    known.touched(device)
    (seen,) = known.take_unwritten(10)
    assert '"uptime_s":7' in seen.facts
    known.put_back([seen])
    assert known.take_unwritten(10)[0].facts == seen.facts


def test_texts_are_cut_where_the_registry_ends():
    device = Device("fake", "plug", 0)
    device.learn(Facts(name="n" * 500, model="m\0" * 500, ssid="s" * 500))

    assert {name: len(value) for name, value in device.facts.items()} == {"name": 100, "model": 64, "ssid": 200}


ANYTHING = st.one_of(
    st.binary(max_size=200),
    st.builds(msgspec.json.encode, st.builds(Reading, active_w=st.floats() | st.none())),
    st.builds(msgspec.json.encode, st.builds(Presence, st.booleans())),
    st.builds(
        msgspec.json.encode,
        st.builds(Facts, name=st.text() | st.none(), channel=st.integers(-(2**70), 2**70), rssi_dbm=st.integers()),
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="/"), max_size=8) | st.sampled_from(["plug", "x" * 300]),
            st.sampled_from(["read", "facts", "online", "log", "ack", "part", "bug", "stranger", "none"]),
            ANYTHING,
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_nothing_that_is_sent_is_an_error(messages):
    world = World()
    world.adopt("plug", 3)
    batches = []
    for device, what, payload, retained in messages:
        handle = world.source.open_topic(f"fake/{device}/{what}")
        if handle is not None:
            batches.append(FakeBatch([handle], [payload], [True]))
            batches[-1].retained = [retained]
            world.ours.accept(batches[-1])
    world.source.due(NOW_US)
    while seen := world.source.known.take_unwritten(7):
        for one in seen:
            assert one.facts is None or msgspec.json.decode(one.facts) is not None
    world.sink.commit()

    assert [batch.acknowledged for batch in batches] == [1] * len(messages)
    # The fake fails at this word, and nothing else does.
    assert world.source.counts["faults"] == sum(what == "bug" for _device, what, *_rest in messages)
