"""Messages between MQTT clients: levels of service, retained messages, subscriptions and their options."""

from __future__ import annotations

import asyncio

import pytest

from broker.packets import (
    V5,
    V311,
    Ack,
    Disconnect,
    Properties,
    Publish,
    Reason,
    Subscription,
    Unsuback,
    Unsubscribe,
    kinds,
)
from tests.helpers.mqtt_peer import running_broker


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_message_reaches_a_subscriber_at_each_level(version, qos):
    async with running_broker() as run:
        reader = await run.client("reader", version)
        assert await reader.subscribe(("a/+", 2)) == b"\2"
        writer = await run.client("writer", version)
        writer.publish("a/b", b"hello", qos, 9)
        if qos == 1:
            assert (await writer.acknowledged()).packet_id == 9
        if qos == 2:
            assert (await writer.acknowledged(kinds.PUBREC)).packet_id == 9
            writer.ack(9, kinds.PUBREL)
            assert (await writer.acknowledged(kinds.PUBCOMP)).packet_id == 9

        got = await reader.message()
        assert (got.topic, got.payload, got.qos, got.retain, got.dup) == ("a/b", b"hello", qos, False, False)


async def test_a_qos_2_message_is_delivered_in_four_steps():
    async with running_broker() as run:
        reader = await run.client("reader")
        await reader.subscribe(("a", 2))
        run.broker.publish("a", b"1", qos=2)
        number = (await reader.message()).packet_id
        reader.ack(number, kinds.PUBREC)
        assert (await reader.acknowledged(kinds.PUBREL)).packet_id == number
        reader.ack(number, kinds.PUBCOMP)
        await reader.nothing()

        assert not run.core.sessions.by_id["reader"].inflight


async def test_a_repeated_qos_2_message_is_taken_once():
    async with running_broker() as run:
        client = await run.client("c")
        for dup in (False, True):
            client.publish("keep/a", b"once", 2, 5, dup=dup)
            assert (await client.acknowledged(kinds.PUBREC)).packet_id == 5
        client.ack(5, kinds.PUBREL)
        await client.acknowledged(kinds.PUBCOMP)

        assert run.sink.payloads == [b"once"]


async def test_a_release_of_an_unknown_id_is_answered():
    async with running_broker() as run:
        client = await run.five("c")
        client.ack(99, kinds.PUBREL)

        assert (await client.acknowledged(kinds.PUBCOMP)).reason == Reason.PACKET_ID_NOT_FOUND


async def test_the_lower_level_of_publisher_and_subscriber_holds():
    async with running_broker() as run:
        reader = await run.client("reader")
        await reader.subscribe(("a", 1))
        run.broker.publish("a", b"", qos=2)
        run.broker.publish("a", b"", qos=0)

        assert [(await reader.message()).qos for _ in range(2)] == [1, 0]


async def test_overlapping_subscriptions_give_one_message_with_the_highest_level_and_all_identifiers():
    async with running_broker() as run:
        reader = await run.five("reader")
        await reader.subscribe(("a/#", 1), number=10)
        await reader.subscribe(("a/b", 2), number=20)
        run.broker.publish("a/b", b"x", qos=2)
        got = await reader.message()

        assert got.qos == 2
        assert set(got.properties.subscription_ids) == {10, 20}
        reader.ack(got.packet_id, kinds.PUBREC)
        await reader.acknowledged(kinds.PUBREL)
        await reader.nothing()


async def test_wildcards_at_the_front_do_not_see_dollar_topics():
    async with running_broker() as run:
        reader = await run.client("reader")
        await reader.subscribe(("#", 0), ("+/x", 0))
        run.broker.publish("$internal/x", b"secret")
        run.broker.publish("a/x", b"seen")

        assert (await reader.message()).payload == b"seen"


async def test_unsubscribing_ends_it():
    async with running_broker() as run:
        reader = await run.five("reader")
        await reader.subscribe(("a", 0), ("b/+", 0))
        reader.send(Unsubscribe(packet_id=3, patterns=("a", "b/+", "never")))
        assert (await reader.expect(Unsuback)).reasons == bytes((0, 0, Reason.NO_SUBSCRIPTION_EXISTED))
        run.broker.publish("a", b"")
        run.broker.publish("b/c", b"")

        await reader.nothing()
        assert run.count("subscriptions") == 0


async def test_a_publisher_notices_a_later_subscriber():
    """The fast path remembers who subscribes; every change of filters has to reach it."""
    async with running_broker() as run:
        writer = await run.client("writer")
        writer.publish("keep/one/two/three/four", b"0")
        await run.sink.until(1)
        reader = await run.client("reader")
        for number, pattern in enumerate(
            ("keep/one/two/three/four", "keep/#", "+/one/#", "keep/one/two/three/+", "#", "keep/one/two/three/four/#")
        ):
            await reader.subscribe((pattern, 0))
            writer.publish("keep/one/two/three/four", str(number).encode())
            assert (await reader.message()).payload == str(number).encode()
            reader.send(Unsubscribe(packet_id=1, patterns=(pattern,)))
            await reader.expect(Unsuback)
            writer.publish("keep/one/two/three/four", b"unseen")
            await writer.nothing()
            await reader.nothing()


async def test_retained_messages_come_first_and_marked():
    async with running_broker() as run:
        writer = await run.client("writer")
        writer.publish("r/1", b"old", retain=True)
        writer.publish("r/1", b"new", retain=True)
        writer.publish("r/2", b"gone", retain=True)
        writer.publish("r/2", b"", retain=True)
        await writer.nothing()
        reader = await run.client("reader")
        await reader.subscribe(("r/#", 0))
        got = await reader.message()
        assert (got.topic, got.payload, got.retain) == ("r/1", b"new", True)
        writer.publish("r/1", b"live", retain=True)

        assert (await reader.message()).retain is False
        assert run.count("retained_messages") == 1


async def test_many_retained_messages_all_arrive():
    async with running_broker(max_queued_messages=100) as run:
        for number in range(1500):
            run.broker.publish(f"r/{number}", str(number).encode(), qos=1, retain=True)
        reader = await run.client("reader")
        await reader.subscribe(("r/+", 1))
        seen = set()
        while len(seen) < 1500:
            got = await reader.message()
            reader.ack(got.packet_id)
            seen.add(got.payload)

        assert run.count("dropped_queue_full") == 0


@pytest.mark.parametrize(("handling", "expected"), [(0, [1, 1]), (1, [1, 0]), (2, [0, 0])])
async def test_retain_handling(handling, expected):
    async with running_broker() as run:
        run.broker.publish("r", b"kept", retain=True)
        reader = await run.five("reader")
        for count in expected:
            await reader.subscribe(Subscription("r", 0, retain_handling=handling))
            for _ in range(count):
                assert (await reader.message()).retain
            await reader.nothing()


async def test_retain_as_published_and_no_local():
    async with running_broker() as run:
        client = await run.five("c")
        await client.subscribe(Subscription("own", 0, no_local=True), Subscription("kept", 0, retain_as_published=True))
        client.publish("own", b"")
        client.publish("kept", b"1", retain=True)

        got = await client.message()
        assert (got.topic, got.retain) == ("kept", True)


async def test_properties_travel_with_the_message():
    async with running_broker() as run:
        reader = await run.five("reader")
        await reader.subscribe(("a", 1))
        writer = await run.five("writer")
        sent = Properties(
            payload_format=1,
            content_type="text",
            response_topic="back",
            correlation_data=b"7",
            user=(("k", "1"), ("k", "2")),
            message_expiry_s=100,
        )
        writer.publish("a", b"x", 1, properties=sent)
        run.clock.seconds += 0

        assert (await reader.message()).properties == sent


async def test_aliases_of_a_client_stand_for_topics():
    async with running_broker(topic_alias_maximum=3) as run:
        client = await run.five("c")
        client.publish("keep/a", b"1", properties=Properties(topic_alias=3))
        client.publish("", b"2", properties=Properties(topic_alias=3))
        client.publish("keep/b", b"3", properties=Properties(topic_alias=3))
        client.publish("", b"4", 1, properties=Properties(topic_alias=3))
        await client.acknowledged()

        assert [handle[1] for batch in run.sink.batches for handle in batch.handles] == [
            "keep/a",
            "keep/a",
            "keep/b",
            "keep/b",
        ]


@pytest.mark.parametrize(("alias", "reason"), [(4, Reason.TOPIC_ALIAS_INVALID), (2, Reason.PROTOCOL_ERROR)])
async def test_a_wrong_alias_ends_the_connection(alias, reason):
    async with running_broker(topic_alias_maximum=3) as run:
        client = await run.five("c")
        client.publish("", b"2", properties=Properties(topic_alias=alias))

        (last,) = await client.ended()
        assert isinstance(last, Disconnect)
        assert last.reason == reason


async def test_the_broker_uses_aliases_as_far_as_the_client_takes_them():
    async with running_broker() as run:
        reader = await run.five("reader", topic_alias_maximum=1)
        await reader.subscribe(("#", 0))
        for topic in ("a", "a", "b", "a"):
            run.broker.publish(topic, b"")
        got = [await reader.message() for _ in range(4)]

        assert [(item.topic, item.properties.topic_alias) for item in got] == [("a", 1), ("", 1), ("b", None), ("", 1)]


async def test_response_information_and_server_limits_are_told():
    async with running_broker(
        receive_maximum=9, topic_alias_maximum=8, max_keep_alive_s=60, session_expiry_max_s=100
    ) as run:
        from tests.helpers.mqtt_peer import RawClient

        client = await RawClient.open(run.port, V5)
        connack = await client.connect(
            "",
            keep_alive_s=120,
            properties=Properties(request_response_information=1, session_expiry_s=5000),
        )
        told = connack.properties

        assert (told.receive_maximum, told.topic_alias_maximum, told.server_keep_alive_s) == (9, 8, 60)
        assert told.session_expiry_s == 100
        assert told.response_information
        assert told.assigned_client_id


async def test_a_message_larger_than_the_client_takes_is_left_out():
    async with running_broker() as run:
        reader = await run.five("reader", maximum_packet_size=50)
        await reader.subscribe(("a", 1))
        run.broker.publish("a", b"x" * 100, qos=1)
        run.broker.publish("a", b"x" * 100, qos=0)
        run.broker.publish("a", b"small", qos=1)

        assert (await reader.message()).payload == b"small"
        assert run.count("dropped_too_large") == 2


async def test_messages_pipelined_behind_connect_are_taken():
    async with running_broker() as run:
        from broker.packets import Connect, encode
        from tests.helpers.mqtt_peer import RawClient

        client = await RawClient.open(run.port)
        client.writer.write(
            encode(Connect(client_id="c"), V311)
            + b"".join(encode(Publish(topic="keep/a", payload=str(n).encode()), V311) for n in range(5))
        )
        await run.sink.until(5)

        assert run.sink.payloads == [b"0", b"1", b"2", b"3", b"4"]


async def test_any_chunking_of_the_stream_gives_the_same_messages():
    from broker.packets import encode

    stream = b"".join(
        encode(Publish(topic=f"keep/{n % 3}", payload=b"%d" % n * (n % 90), qos=n % 2, packet_id=n % 2 and n), V311)
        for n in range(1, 60)
    )
    async with running_broker() as run:
        client = await run.client("c")
        transport = next(iter(run.core.connections))
        for size in (1, 2, 3, 7, 64, 1000, len(stream)):
            before = len(run.sink.payloads)
            for start in range(0, len(stream), size):
                transport.data_received(stream[start : start + size])
            await run.sink.until(before + 59)
            assert run.sink.payloads[before:] == [b"%d" % n * (n % 90) for n in range(1, 60)]
            for _ in range(30):
                await client.expect(Ack)


async def test_a_big_message_in_small_pieces_does_not_stall():
    async with running_broker() as run:
        from broker.packets import encode

        client = await run.client("c")
        transport = next(iter(run.core.connections))
        stream = encode(Publish(topic="keep/a", payload=b"x" * 250_000, qos=1, packet_id=1), V311)
        for start in range(0, len(stream), 10):
            transport.data_received(stream[start : start + 10])
        await client.acknowledged()

        assert run.core.partial_bytes == 0


async def test_shared_subscriptions_are_served_in_turn():
    async with running_broker() as run:
        readers = [await run.five(f"r{number}") for number in range(3)]
        for reader in readers:
            await reader.subscribe(("$share/g/a/+", 0))
        for number in range(9):
            run.broker.publish("a/b", str(number).encode())
        got = [[(await reader.message()).payload for _ in range(3)] for reader in readers]

        assert sorted(item for part in got for item in part) == [str(n).encode() for n in range(9)]


async def test_shared_messages_go_to_those_who_have_room():
    async with running_broker() as run:
        slow = await run.five("slow", receive_maximum=1)
        fast = await run.five("fast")
        for reader in (slow, fast):
            await reader.subscribe(("$share/g/a", 1))
        for number in range(6):
            run.broker.publish("a", str(number).encode(), qos=1)
        await slow.message()

        assert [(await fast.message()).payload for _ in range(5)]


async def test_shared_messages_of_a_member_that_ends_are_handed_over():
    async with running_broker() as run:
        first = await run.five("first")
        await first.subscribe(("$share/g/a", 1))
        run.broker.publish("a", b"unanswered", qos=1)
        assert (await first.message()).payload == b"unanswered"
        second = await run.five("second")
        await second.subscribe(("$share/g/a", 1))
        first.drop()

        assert (await second.message()).payload == b"unanswered"


async def test_the_loop_is_free_between_slices_of_retained_messages():
    async with running_broker() as run:
        for number in range(3000):
            run.broker.publish(f"r/{number}", b"x", retain=True)
        reader = await run.client("reader")
        count = 0

        async def other() -> None:
            nonlocal count
            while True:
                await asyncio.sleep(0)
                count += 1

        task = asyncio.create_task(other())
        await reader.subscribe(("r/#", 0))
        for _ in range(3000):
            await reader.message()
        task.cancel()

        assert count >= 3000 // 200
