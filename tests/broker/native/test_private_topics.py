"""Topics of the hub's own: who may receive them, and that nobody else can get in or look in."""

from __future__ import annotations

import pytest

from broker.engine import Access
from broker.native.message import Message
from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener
from broker.packets import V5, V311, ProtocolError, Reason
from broker.packets.connect import Will
from tests.helpers.mqtt_peer import HandClock, RawClient, RecordingSink, Running, TableAuthenticator, until

PRIVATE = "own/live/"
NOT_AUTHORIZED = int(Reason.NOT_AUTHORIZED)
ACCOUNTS = {
    "all": (b"s", Access("all", "service", ("#",), ("#",))),
    "named": (b"s", Access("named", "service", ("own/live/#",), ("own/live/#", "own/#"))),
    "one": (b"s", Access("one", "grant", (), ("own/live/stats",))),
    "other": (b"s", Access("other", "grant", (), ("own/live/fleet",))),
}


@pytest.fixture(params=[V311, V5], ids=["3.1.1", "5.0"])
def version(request):
    return request.param


@pytest.fixture
async def run(tmp_path):
    sink, clock = RecordingSink(), HandClock()
    broker = NativeBroker(
        BrokerOptions(max_unsent_bytes=64 * 1024),
        [Listener("test", 0, ("127.0.0.1",))],
        TableAuthenticator(**ACCOUNTS),
        sink,
        data_dir=tmp_path,
        private=PRIVATE,
        now=clock,
        monotonic=clock,
    )
    await broker.start()
    yield Running(broker, sink, clock)
    await broker.stop()


async def came(run, name, version, *filters, **fields):
    client = await RawClient.connected(run.port, name, version, username=name, password=b"s", **fields)
    return client, (await client.subscribe(*[(one, 1) for one in filters]) if filters else b"")


async def test_only_a_pattern_that_names_them_lets_somebody_subscribe(run, version):
    refused = NOT_AUTHORIZED if version == V5 else 0x80
    _all, reasons = await came(run, "all", version, "own/live/stats", "own/live/#", "#", "own/#", "+/live/stats")
    assert list(reasons) == [refused, refused, 1, 1, 1]
    _one, reasons = await came(run, "one", version, "own/live/stats", "own/live/fleet", "own/live/#", "#")
    assert list(reasons) == [1, refused, refused, refused]
    _named, reasons = await came(run, "named", version, "own/live/#", "own/live/stats", "own/other")
    assert list(reasons) == [1, 1, 1]


async def test_what_is_sent_reaches_those_who_may_and_nobody_by_a_wildcard(run, version):
    everybody, _ = await came(run, "all", version, "#", "own/#", "+/live/stats", "$share/g/#")
    one, _ = await came(run, "one", version, "own/live/stats")
    named, _ = await came(run, "named", version, "own/live/#", "own/live/stats")
    other, _ = await came(run, "other", version, "own/live/fleet")

    assert run.broker.publish_private("own/live/stats", b"picture") == 2

    assert (await one.message()).payload == b"picture"
    assert (await named.message()).payload == b"picture"
    for client in (everybody, other, one, named):
        await client.nothing()
    run.broker.publish("own/other", b"plain")
    assert {(await everybody.message()).payload for _ in range(2)} == {b"plain"}


async def test_it_is_known_whether_anybody_would_receive(run, version):
    await came(run, "all", version, "#")
    assert not run.broker.has_private_receiver("own/live/stats")
    client, _ = await came(run, "one", version, "own/live/stats")
    assert run.broker.has_private_receiver("own/live/stats")
    assert not run.broker.has_private_receiver("own/live/fleet")
    client.writer.close()
    await until(lambda: not run.broker.has_private_receiver("own/live/stats"))


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_no_client_publishes_there(run, version, qos):
    one, _ = await came(run, "one", version, "own/live/stats")
    for name in ("all", "named", "one"):
        client = await RawClient.connected(run.port, f"{name}-sends", version, username=name, password=b"s")
        client.publish("own/live/stats", b"forged", qos=qos, retain=True)
        if qos:
            ack = await client.acknowledged(4 if qos == 1 else 5)
            assert ack.reason == (NOT_AUTHORIZED if version == V5 else 0)
        else:
            await client.nothing()
    await one.nothing()
    assert run.count("publish_denied") == 3
    assert run.count("retained_messages") == 0
    assert run.sink.payloads == []


async def test_no_last_will_goes_there(run, version):
    one, _ = await came(run, "one", version, "own/live/stats")
    will = Will(topic="own/live/stats", payload=b"forged", qos=1, retain=True)
    client = await RawClient.connected(run.port, "all", version, username="all", password=b"s", will=will)
    client.writer.transport.abort()
    await run.sink.until_event("lost", "all")

    await one.nothing()
    assert run.count("publish_denied") == 1


async def test_the_plain_publish_does_not_go_there(run):
    with pytest.raises(ProtocolError):
        run.broker.publish("own/live/stats", b"x", retain=True)


async def test_a_receiver_that_does_not_read_misses_messages_and_holds_no_more_than_its_limit(run):
    slow, _ = await came(run, "one", V311, "own/live/stats")
    quick, _ = await came(run, "named", V311, "own/live/stats")
    slow.stream._transport.pause_reading()
    payload = bytes(50_000)
    for _ in range(400):
        run.broker.publish_private("own/live/stats", payload)
        assert (await quick.message()).payload == payload
    [connection] = [one for one in run.core.connections if one.name == "one"]

    assert run.count("dropped_slow") > 100
    assert connection._transport.get_write_buffer_size() <= 64 * 1024 + len(payload) + 100


async def test_ending_sessions_closes_and_forgets_those_of_some_names_only(run, version):
    fields = {"clean_start": False} if version == V311 else {}
    here, _ = await came(run, "one", version, "own/live/stats", **fields)
    away, _ = await came(run, "other", version, "own/live/fleet", **fields)
    stays, _ = await came(run, "named", version, "own/live/stats", **fields)
    away.writer.close()
    await run.sink.until_event("lost", "other")

    ended = run.broker.end_sessions(frozenset({"one", "other"}), "grant ended")

    await here.ended()
    assert ("grant ended", "one") in run.sink.events
    assert ended == (2 if version == V311 else 1)
    assert set(run.core.sessions.by_id) == {"named"}
    assert run.broker.publish_private("own/live/stats", b"x") == 1
    assert (await stays.message()).payload == b"x"
    assert run.broker.end_sessions(frozenset({"one"}), "grant ended") == 0


async def test_without_private_topics_everything_is_as_ever():
    broker = NativeBroker(
        BrokerOptions(allow_anonymous=True), [Listener("test", 0, ("127.0.0.1",))], None, RecordingSink()
    )
    await broker.start()
    client = await RawClient.connected(broker.addresses()["test"][1], "c")
    assert await client.subscribe(("#", 0)) == b"\0"
    client.publish("wd/v1/live/stats", b"x")
    assert (await client.message()).payload == b"x"
    await broker.stop()


def test_a_message_of_the_hub_is_made_once_for_all():
    message = Message("own/live/stats", b"x")

    assert message.plain(V311) is message.plain(V311)
