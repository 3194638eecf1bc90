"""Modules come and go by what is heard of them, where a broker tells of no client."""

from __future__ import annotations

import pytest

from app.protocol.messages import State
from app.protocol.topics import Kind
from app.sources.heard import AGAIN_S, LEAST_SILENCE_S, HeardModules
from app.sources.mqtt import ModuleHandle, MqttSource
from app.sources.sessions import Sessions
from tests.app.ingest.readings import FakeBatch

SLOTS = {"A": 0, "B": 1}
SERIALS = list(SLOTS)


class World:
    """A source with its sessions and line of commands, and a clock."""

    def __init__(self):
        self.now = 1000.0
        self.told = []
        self.source = MqttSource(SLOTS.get, None, None, serial_of=SERIALS.__getitem__, on_message=lambda *_: None)
        self.sessions = Sessions(SLOTS.get)
        self.source.on_connected += [
            self.sessions.opened,
            lambda client: self.told.append((client.access.subject, "in")),
        ]
        self.source.on_disconnected += [
            self.sessions.closed,
            lambda client, cause: self.told.append((client.access.subject, cause)),
        ]
        self.heard = HeardModules(self.source, SERIALS.__getitem__, lambda: self.now)

    def hear(self, *handles, retained=()):
        batch = FakeBatch(handles, [b""] * len(handles))
        batch.retained = retained
        self.heard.observe(batch)

    def state(self, slot, **fields):
        self.heard.on_message(SERIALS[slot], slot, Kind.STATE, State(**fields), 0)

    def look(self, after_s=1.0):
        self.now += after_s
        self.heard.look()
        told, self.told = self.told, []
        return told


@pytest.fixture
def world():
    return World()


def test_a_module_that_is_heard_is_there_and_listens_until_it_is_silent(world):
    world.hear(0, 0, 0)
    assert world.look() == [("A", "in")]
    assert world.sessions.is_open("A")
    assert world.source.commands.listening() == {"A"}
    assert world.source.commands.take_begun() == ["A"]
    world.hear(0)
    assert world.look() == []
    assert world.look(LEAST_SILENCE_S) == []
    assert world.look(1) == [("A", "silent")]
    assert not world.sessions.is_open("A")
    assert "A" not in world.source.commands


def test_a_last_will_is_an_end_at_once_and_what_came_before_it_no_sign_of_life(world):
    world.hear(0)
    world.look()
    world.hear(0)
    world.state(0, online=False)
    assert world.look() == [("A", "will")]
    assert world.look() == []
    world.hear(0)
    assert world.look() == [("A", "in")]


def test_a_birth_is_a_new_connection(world):
    world.state(0, online=True, period_ms=1000)
    assert world.look() == [("A", "in")]
    world.source.commands.take_begun()
    world.state(0, online=True)
    assert world.look() == [("A", "taken over"), ("A", "in")]
    assert world.source.commands.take_begun() == ["A"]
    world.state(0, online=False)
    world.state(0, online=True)
    assert world.look() == [("A", "will"), ("A", "in")]


def test_slow_modules_may_be_silent_longer(world):
    world.state(0, period_ms=600_000)
    world.hear(1)
    assert world.look() == [("A", "in"), ("B", "in")]
    assert world.look(LEAST_SILENCE_S + 1) == [("B", "silent")]
    assert world.look(1_700) == []
    assert world.look(100) == [("A", "silent")]


def test_the_period_of_a_module_that_does_not_tell_is_learned(world):
    world.hear(1)
    world.look()
    assert world.look(600) == [("B", "silent")]
    world.hear(1)
    assert world.look() == [("B", "in")]
    assert world.look(1_000) == []


def test_what_a_broker_had_kept_and_what_is_nobodys_tell_nothing(world):
    unknown = ModuleHandle(type("Topic", (), {"serial": "X", "kind": Kind.TELE})(), None)
    known = ModuleHandle(type("Topic", (), {"serial": "B", "kind": Kind.ACK})(), 1)
    world.hear(0, known, unknown, retained=(True, False, False))

    assert world.look() == [("B", "in")]


def test_a_command_that_found_nobody_is_offered_again_later(world):
    world.hear(0)
    world.look()
    assert world.source.commands.bring("A", "c1")
    world.source.commands.take_begun()
    world.heard.unrouted(["wd/v1/m/A/cmd", "wd/v1/m/B/cmd", "nonsense"])
    world.look()
    assert world.source.commands.take_begun() == []
    world.hear(0)
    world.look(AGAIN_S)
    assert world.source.commands.take_begun() == ["A"]
    assert world.source.commands.bring("A", "c1"), "it may be published again"
    assert world.told == []
