"""Delivery against a real registry and a broker that does what the test says: events, races, expiry by the clock."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.commands import ANSWER_GRACE_US
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.protocol.codec import decode_cmd, encode_json
from app.protocol.messages import Ack, Cmd
from app.services.commands.delivery import CommandDelivery
from app.services.commands.sending import Commands, Order
from app.services.commands.tally import CommandTally
from app.sources import command_line
from app.sources.command_line import CommandLine
from app.stores.registry.commands import CommandBook, Selection
from app.stores.registry.registry import Registry
from broker.engine import Access, ClientInfo
from tests.helpers.mqtt_peer import until

START_US = 1_800_000_000_000_000
ANNA = Principal("anna", ROLE_SCOPES[Role.ADMIN])


def client(serial, client_id=None, kind="module"):
    return ClientInfo(client_id or serial, Access(serial, kind), "127.0.0.1", "mqtt", 4)


class Broker:
    """Remembers what is published; `deaf` topics have no receiver."""

    def __init__(self):
        self.published = []
        self.taken = {}
        self.deaf = set()

    def receivers(self, topic):
        return int(topic not in self.deaf)

    def publish(self, topic, payload, *, qos=0, retain=False, on_taken=None):
        assert (qos, retain) == (1, False)
        message = decode_cmd(payload)
        self.published.append((topic.split("/")[3], message.id))
        self.taken[message.id] = on_taken


class World:
    """Everything between the API and the broker."""

    def __init__(self, registry):
        self.now_us = START_US
        self.events = []
        self.broker = Broker()
        self.book = CommandBook(registry)
        self.start()

    def start(self):
        self.line = CommandLine()
        tally = CommandTally()
        self.delivery = CommandDelivery(self.book, self.line, self.broker, self, tally, self.clock)
        self.commands = Commands(self.book, self.line.listening, self.delivery.look_at, self, tally, self.clock)
        self.running = asyncio.create_task(self.delivery.run())

    async def next_hub(self):
        """What the registry does not know is forgotten."""
        self.running.cancel()
        await asyncio.wait([self.running])
        self.broker.deaf.clear()
        self.start()

    def clock(self):
        return self.now_us

    def note(self, event):
        self.events.append((event.module, event.kind, event.details["name"], event.details["state"]))

    def listen(self, serial, *held, client_id=None):
        self.line.subscribed(client(serial, client_id), f"wd/v1/m/{serial}/cmd", held)

    async def send(self, serial="A", name="diagnose", expires_in_s=60):
        return (await asyncio.to_thread(self.commands.send, ANNA, serial, name, {}, expires_in_s)).id

    async def idle(self):
        """Everything that was asked for is done."""
        await until(lambda: not self.line.changed.is_set() and not self.delivery._due and not self.line._begun)
        # The task may be in the middle of what it took: it waits for more only when it has ended that.
        await until(lambda: self.line.changed._waiters)


@pytest.fixture
async def world(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as registry:
        registry.provision_many(["A", "B"])
        made = World(registry)
        yield made
        made.running.cancel()
        await asyncio.wait([made.running])


async def test_each_change_of_state_is_an_event(world):
    world.listen("A")
    command_id = await world.send()
    await until(lambda: world.broker.published)
    world.line.answered("A", Ack(command_id, result="accepted"), START_US)
    world.line.answered("A", Ack(command_id, result="failed"), START_US)
    cancelled = await world.send("B")
    await asyncio.to_thread(world.commands.cancel, ANNA, cancelled)
    await until(lambda: len(world.events) == 6)

    assert [state for module, _kind, _name, state in world.events if module == "A"] == [
        "queued",
        "sent",
        "acknowledged",
        "failed",
    ]
    assert [state for module, _kind, _name, state in world.events if module == "B"] == ["queued", "cancelled"]
    assert {kind for _module, kind, _name, _state in world.events} == {"command"}


async def test_a_bulk_notes_each_module(world):
    order = Order("diagnose", {}, Selection(), 60)
    await asyncio.to_thread(world.commands.send_bulk, ANNA, order)

    assert sorted(world.events) == [(serial, "command", "diagnose", "queued") for serial in "AB"]


async def test_expiry_follows_the_given_clock(world):
    queued = await world.send(expires_in_s=60)
    world.listen("B")
    sent = await world.send("B", expires_in_s=60)
    await until(lambda: world.broker.published)
    world.now_us = START_US + 60_000_000
    await world.delivery.expire()
    assert [world.book.command(one).state for one in (queued, sent)] == ["expired", "sent"]
    world.now_us += ANSWER_GRACE_US
    await world.delivery.expire()
    assert world.book.command(sent).state == "expired"

    assert [event[3] for event in world.events if event[0] == "B"] == ["queued", "sent", "expired"]
    assert world.delivery.statistics()["expired"] == 2
    assert not world.delivery._taken


async def test_what_the_broker_holds_it_brings_itself(world):
    world.listen("A")
    command_id = await world.send()
    await until(lambda: world.broker.published)
    world.line.gone(client("A"))
    world.listen("A", encode_json(Cmd(command_id, "diagnose")), b"not of ours")
    await world.idle()

    assert len(world.broker.published) == 1
    assert world.delivery.statistics()["sent_again"] == 0


async def test_a_module_that_comes_back_while_a_command_is_on_its_way_gets_it_once(world, monkeypatch):
    world.listen("A")
    real, entered, go_on = CommandBook.take, asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(*args):
        taken = real(*args)
        if not entered.is_set():
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(20)
        return taken

    await world.idle()
    monkeypatch.setattr(CommandBook, "take", slow)
    command_id = await world.send()
    await entered.wait()
    world.line.gone(client("A"))
    world.listen("A")
    go_on.set()
    await until(lambda: world.broker.published)
    await world.idle()

    assert world.broker.published == [("A", command_id)], "on the new connection, once"


async def test_one_that_went_before_it_was_published_gets_it_when_it_is_back(world):
    world.listen("A")
    await world.idle()
    world.broker.deaf.add("wd/v1/m/A/cmd")
    reboot = await world.send(name="reboot")
    await until(lambda: world.book.command(reboot).state == "sent")
    await world.idle()
    assert world.broker.published == []
    world.line.gone(client("A"))
    world.broker.deaf.clear()
    world.listen("A")
    await until(lambda: world.broker.published)

    assert world.broker.published == [("A", reboot)], "also what is not repeated: it never left"


@pytest.mark.parametrize(("name", "taken", "times"), [("reboot", True, 1), ("reboot", False, 2), ("diagnose", True, 2)])
async def test_what_comes_again_on_a_new_connection(world, name, taken, times):
    world.listen("A")
    command_id = await world.send(name=name)
    await until(lambda: world.broker.published)
    if taken:
        world.broker.taken[command_id]()
    world.line.gone(client("A"))
    world.listen("A")
    await world.idle()

    assert world.broker.published == [("A", command_id)] * times


@pytest.mark.parametrize("killed", ["before it was published", "before its PUBACK was written", "after that"])
async def test_after_a_kill_a_reboot_comes_again_unless_it_is_known_that_it_was_taken(world, killed, monkeypatch):
    world.listen("A")
    await world.idle()
    if killed == "before it was published":
        world.broker.deaf.add("wd/v1/m/A/cmd")
    reboot = await world.send(name="reboot")
    await until(lambda: world.book.command(reboot).state == "sent")
    await world.idle()
    if killed == "before its PUBACK was written":
        monkeypatch.setattr(CommandBook, "note_taken", lambda *_: None)
    if killed != "before it was published":
        world.broker.taken[reboot]()
        await world.idle()
    published = len(world.broker.published)
    await world.next_hub()
    world.listen("A")
    await world.idle()

    expected = [] if killed == "after that" else [("A", reboot)]
    assert world.broker.published[published:] == expected
    assert (world.book.command(reboot).sent_us is None) == bool(expected)


async def test_an_answer_says_that_it_was_taken(world):
    world.listen("A")
    reboot = await world.send(name="reboot")
    await until(lambda: world.broker.published)
    world.line.answered("A", Ack(reboot, result="accepted"), START_US + 5)
    await until(lambda: world.book.command(reboot).state == "acknowledged")

    assert world.book.command(reboot).sent_us == START_US + 5


async def test_subscribing_again_is_no_new_connection(world):
    world.listen("A")
    await world.send()
    await until(lambda: world.broker.published)
    world.listen("A")
    await world.idle()

    assert len(world.broker.published) == 1


async def test_who_reads_along_is_no_module(world):
    world.line.subscribed(client("spy", kind="service"), "wd/v1/m/A/cmd", ())
    world.line.subscribed(client("A"), "wd/v1/m/+/cmd", ())
    world.line.subscribed(client("A"), "wd/v1/m/A/tele", ())

    assert world.line.listening() == frozenset()


async def test_a_module_with_two_sessions_listens_until_both_are_gone(world):
    world.listen("A", client_id="A/1")
    world.listen("A", client_id="A/2")
    world.line.gone(client("A", "A/1"))
    assert "A" in world.line
    world.line.gone(client("A", "A/2"))
    world.line.gone(client("A", "A/2"))
    assert "A" not in world.line


async def test_answers_that_nobody_takes_are_bounded(monkeypatch):
    monkeypatch.setattr(command_line, "MOST_ANSWERS", 3)
    line = CommandLine()
    for number in range(5):
        line.answered("A", Ack(str(number)), 0)

    assert (line.shed, line.answers_waiting) == (2, 3)
    assert [one.ack.id for one in line.take_answers(2)] == ["0", "1"]
