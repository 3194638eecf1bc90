"""Every limit: what happens at it, its counter, and its one log line."""

from __future__ import annotations

import asyncio

import pytest

from broker.packets import V5, V311, Connect, Disconnect, Ping, Properties, Publish, Reason, Subscription, encode
from tests.helpers.mqtt_peer import RawClient, running_broker, until


async def test_a_packet_that_is_too_large(caplog):
    async with running_broker(max_packet_size=1000) as run:
        for number in range(3):
            client = await run.five("big")
            client.publish("keep/a", b"x" * (1000 if number else 100_000))
            (last,) = await client.ended()
            assert isinstance(last, Disconnect)
            assert last.reason == Reason.PACKET_TOO_LARGE
        assert run.count("limit_packet_size") == 3
        assert ("limit", "big") in run.sink.events

    assert len([line for line in caplog.messages if "limit_packet_size" in line and "'big'" in line]) == 1


async def test_a_connect_that_is_too_large():
    async with running_broker(max_connect_size=500) as run:
        client = await RawClient.open(run.port)
        client.send(Connect(client_id="c" * 600))

        assert await client.ended() == []
        assert run.count("limit_packet_size") == 1


async def test_no_connect_in_time():
    async with running_broker(half_open_s=5) as run:
        silent = await RawClient.open(run.port)
        halfway = await RawClient.open(run.port)
        halfway.writer.write(b"\x10\x50\0\4MQ")
        client = await run.client("c")
        await until(lambda: run.count("connections") >= 3)
        run.advance(7)

        assert await silent.ended() == []
        assert await halfway.ended() == []
        await client.nothing()
        assert run.count("half_open_timeouts") == 2
        assert run.core.partial_bytes == 0


async def test_anything_but_connect_first():
    async with running_broker() as run:
        client = await RawClient.open(run.port)
        client.send(Ping())

        assert await client.ended() == []
        assert run.count("protocol_errors") == 1


async def test_too_many_connections():
    async with running_broker(max_connections=2) as run:
        clients = [await run.client(f"c{number}") for number in range(2)]
        third = await RawClient.open(run.port)

        assert await third.ended() == []
        assert run.count("limit_connections") == 1
        for client in clients:
            await client.nothing()


@pytest.mark.parametrize("limits", [{"connects_per_second": 50}, {"connects_per_second_per_address": 50}])
async def test_a_storm_of_connects_is_queued_and_nobody_is_refused(limits):
    async with running_broker(**limits) as run:
        clients = [await RawClient.open(run.port) for _ in range(40)]
        for number, client in enumerate(clients):
            # What is sent behind the CONNECT waits with it.
            client.send(Connect(client_id=f"c{number}"))
            client.publish("keep/a", str(number).encode())
        await until(lambda: run.count("connects_waiting") >= 35)
        assert run.count("connects_accepted") == 5
        # A lot of waiting makes nobody half open.
        run.advance(0.5)
        while run.count("connects_waiting"):
            run.clock.seconds += 0.01
            await asyncio.sleep(0.002)
        await run.sink.until(40)

        assert sorted(run.sink.payloads) == sorted(str(number).encode() for number in range(40))
        assert run.count("connects_queued") == 35
        assert run.count("connects_refused") == 0


async def test_a_client_that_leaves_the_queue_harms_nobody():
    async with running_broker(connects_per_second=10) as run:
        clients = [await RawClient.open(run.port) for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(Connect(client_id=f"c{number}"))
        await until(lambda: run.count("connects_waiting") >= 2)
        clients[1].drop()
        while run.count("connects_waiting"):
            run.clock.seconds += 0.05
            await asyncio.sleep(0.002)

        await run.sink.until_event("lost", "c1")
        for index in (0, 2):
            assert (await clients[index].receive()).reason == 0


async def test_too_many_subscriptions():
    async with running_broker(max_subscriptions=2) as run:
        client = await run.five("c")

        assert await client.subscribe(("a", 0), ("b", 0), ("c", 0), ("a", 1)) == bytes((0, 0, Reason.QUOTA_EXCEEDED, 1))
        assert run.count("limit_subscriptions") == 1


async def test_too_many_levels():
    async with running_broker(max_topic_levels=3) as run:
        client = await run.five("c")
        assert await client.subscribe(("a/b/c", 0), ("a/b/c/d", 0)) == bytes((0, Reason.TOPIC_FILTER_INVALID))
        client.publish("keep/b/c/d", b"", 1)

        assert (await client.acknowledged()).reason == Reason.NOT_AUTHORIZED
        assert run.count("limit_topic_levels") == 2


@pytest.mark.parametrize("limits", [{"max_queued_messages": 3}, {"max_queued_bytes": 3 * (100 + 1)}])
async def test_a_full_queue_drops_what_is_new(limits):
    async with running_broker(**limits) as run:
        client = await run.client("c", clean_start=False)
        await client.subscribe(("a", 1))
        client.drop()
        await run.sink.until_event("lost", "c")
        for number in range(5):
            run.broker.publish("a", str(number).encode() * 100, qos=1)
        assert run.count("dropped_queue_full") == 2
        back = await run.client("c", clean_start=False)

        assert [(await back.message()).payload[:1] for _ in range(3)] == [b"0", b"1", b"2"]


async def test_no_more_is_on_its_way_than_the_window():
    async with running_broker(max_inflight=2) as run:
        client = await run.client("c")
        await client.subscribe(("a", 1))
        for number in range(4):
            run.broker.publish("a", str(number).encode(), qos=1)
        first = [await client.message() for _ in range(2)]
        await client.nothing()
        client.ack(first[0].packet_id)

        assert (await client.message()).payload == b"2"


async def test_a_slow_reader_loses_qos_0_and_keeps_qos_1():
    async with running_broker(max_unsent_bytes=100_000) as run:
        client = await run.client("slow")
        await client.subscribe(("a", 1))
        client.stream._limit = 1000  # the test does not read ahead either
        client.writer.transport.pause_reading()
        for _ in range(300):
            run.broker.publish("a", b"x" * 50_000)
            await asyncio.sleep(0)
        dropped = run.count("dropped_slow")
        run.broker.publish("a", b"last", qos=1)
        assert dropped > 0
        connection = next(iter(run.core.connections))
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() < 300_000
        client.writer.transport.resume_reading()
        got = b""
        count = 0
        while got != b"last":
            got = (await client.message()).payload
            count += 1

        assert count == 300 - dropped + 1


async def test_unfinished_packets_of_all_together_are_bounded():
    async with running_broker(max_partial_bytes=300_000) as run:
        clients = [await run.client(f"c{number}", V5) for number in range(5)]
        packet = encode(Publish(topic="keep/a", payload=b"x" * 200_000), V5)
        for client in clients:
            client.writer.write(packet[:100_000])
        await until(lambda: run.count("limit_partial_bytes"))

        assert run.core.partial_bytes <= 300_000
        assert run.count("limit_partial_bytes") >= 1


async def test_too_many_retained_messages():
    async with running_broker(max_retained_messages=2, max_retained_bytes=100) as run:
        for topic in ("a", "b", "c"):
            run.broker.publish(topic, b"x", retain=True)
        run.broker.publish("a", b"x" * 200, retain=True)
        run.broker.publish("a", b"new", retain=True)
        reader = await run.client("c")
        await reader.subscribe(("+", 0))

        assert {(item.topic, item.payload) for item in [await reader.message() for _ in range(2)]} == {
            ("a", b"new"),
            ("b", b"x"),
        }
        assert run.count("limit_retained") == 2


async def test_too_many_sessions():
    async with running_broker(max_sessions=1) as run:
        await run.client("a", clean_start=False)
        client = await RawClient.open(run.port, V5)

        connack = await client.connect("b", properties=Properties(session_expiry_s=5))
        assert connack.reason == Reason.QUOTA_EXCEEDED
        assert run.count("limit_sessions") == 1


async def test_a_3_1_1_client_that_never_finishes_its_qos_2_messages():
    async with running_broker(receive_maximum=3) as run:
        client = await run.client("c")
        for number in range(1, 9):
            client.publish("other", b"", 2, number)
        await client.ended()

        assert run.count("limit_inflight") == 1


async def test_ever_new_topics_do_not_pile_up():
    async with running_broker() as run:
        client = await run.client("c")
        connection = next(iter(run.core.connections))
        for number in range(5000):
            client.publish(f"keep/{number}", b"")
        await run.sink.until(5000)

        assert len(connection.topics) <= 4096


async def test_a_client_that_does_not_close_is_cut():
    async with running_broker() as run:
        client = await run.client("c", V5)
        client.writer.transport.pause_reading()
        client.writer.write(b"\xff\xff\xff\xff\xff")
        await until(lambda: run.count("protocol_errors"))
        assert run.count("connections") == 1
        run.advance(6)
        await until(lambda: not run.count("connections"))


async def test_a_client_reads_why_it_was_sent_away_even_while_it_sends():
    async with running_broker(receive_maximum=5) as run:
        run.sink.manual = True
        client = await run.five("c")
        for number in range(1, 500):
            client.publish("keep/a", b"x" * 1000, 1, number)
            await client.writer.drain()
            if number % 50 == 0:
                await asyncio.sleep(0)

        packets = await client.ended()
        assert packets[-1].reason == Reason.RECEIVE_MAXIMUM_EXCEEDED


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_client_without_an_id(version):
    async with running_broker() as run:
        client = await RawClient.open(run.port, version)
        connack = await client.connect("", clean_start=False)
        assert connack.reason == (0 if version == V5 else 2)

        other = await RawClient.open(run.port, version)
        assert (await other.connect("")).reason == 0


async def test_an_unknown_version_is_told():
    async with running_broker() as run:
        client = await RawClient.open(run.port)
        client.writer.write(b"\x10\x0c\0\4MQTT\x09\2\0\0\0\0")

        assert (await client.receive()).reason == 1


async def test_an_extended_authentication_is_refused():
    async with running_broker() as run:
        client = await RawClient.open(run.port, V5)
        connack = await client.connect("c", properties=Properties(authentication_method="x"))

        assert connack.reason == Reason.BAD_AUTHENTICATION_METHOD


async def test_problem_information_only_for_who_wants_it():
    async with running_broker() as run:
        client = await run.five("c", request_problem_information=0)
        client.send(Connect(client_id="again", version=V5))

        (last,) = await client.ended()
        assert last.properties.reason_string is None


async def test_an_invalid_filter_is_told():
    async with running_broker() as run:
        client = await run.five("c")

        assert await client.subscribe(Subscription("a/#/b"), Subscription("$share/g")) == bytes(
            (Reason.TOPIC_FILTER_INVALID, Reason.TOPIC_FILTER_INVALID)
        )
