"""Sessions: taken over, resumed, expired, restored after a restart; wills; keepalive."""

from __future__ import annotations

import pytest

from broker.packets import V5, V311, Disconnect, Properties, Publish, Reason, Will, kinds
from tests.helpers.mqtt_peer import HandClock, RawClient, RecordingSink, running_broker, until

WILL = Will(topic="keep/state", payload=b"gone", qos=1, retain=True)


async def test_a_second_connection_takes_the_session_over():
    async with running_broker() as run:
        first = await run.five("c", session_expiry_s=100)
        await first.subscribe(("a", 1))
        second = await RawClient.open(run.port, V5)
        assert (await second.connect("c", clean_start=False)).session_present

        (last,) = await first.ended()
        assert isinstance(last, Disconnect)
        assert last.reason == Reason.SESSION_TAKEN_OVER
        assert run.sink.events == [("connected", "c"), ("takeover", "c"), ("connected", "c")]
        run.broker.publish("a", b"x")
        assert (await second.message()).payload == b"x"


async def test_a_clean_start_forgets_the_session():
    async with running_broker() as run:
        first = await run.client("c", clean_start=False)
        await first.subscribe(("a", 1))
        second = await RawClient.open(run.port)
        assert not (await second.connect("c", clean_start=True)).session_present
        run.broker.publish("a", b"x", qos=1)

        await second.nothing()


async def test_what_came_while_away_is_delivered_in_order():
    async with running_broker() as run:
        client = await run.client("c", clean_start=False)
        await client.subscribe(("a", 2))
        client.send(Disconnect())
        await client.ended()
        for number in range(50):
            run.broker.publish("a", str(number).encode(), qos=number % 3)
        back = await run.client("c", clean_start=False)
        got = [await back.message() for _ in range(sum(1 for n in range(50) if n % 3))]

        assert [item.payload for item in got] == [str(n).encode() for n in range(50) if n % 3]


async def test_unanswered_messages_come_again_marked_and_in_order():
    async with running_broker() as run:
        client = await run.client("c", clean_start=False)
        await client.subscribe(("a", 2))
        for number in range(5):
            run.broker.publish("a", str(number).encode(), qos=1 + number % 2)
        first = [await client.message() for _ in range(5)]
        client.ack(first[1].packet_id, kinds.PUBREC)
        await client.acknowledged(kinds.PUBREL)
        client.drop()
        await run.sink.until_event("lost", "c")
        back = await run.client("c", clean_start=False)
        again = [await back.receive() for _ in range(5)]

        assert again[0].dup
        assert [item.packet_id for item in again] == [item.packet_id for item in first]
        assert again[1].kind == kinds.PUBREL
        assert [item.payload for item in again if isinstance(item, Publish)] == [b"0", b"2", b"3", b"4"]


async def test_the_window_of_the_client_holds_also_after_a_reconnect():
    async with running_broker() as run:
        client = await run.five("c", session_expiry_s=100)
        await client.subscribe(("a", 1))
        for number in range(5):
            run.broker.publish("a", str(number).encode(), qos=1)
        for _ in range(5):
            await client.message()
        client.drop()
        await run.sink.until_event("lost", "c")
        back = await run.five("c", session_expiry_s=100, receive_maximum=2, clean_start=False)
        seen = [await back.message() for _ in range(2)]
        await back.nothing()
        for _ in range(3):
            back.ack(seen[-2].packet_id)
            seen.append(await back.message())

        assert [item.payload for item in seen] == [b"0", b"1", b"2", b"3", b"4"]
        assert all(item.dup for item in seen)


async def test_a_session_expires():
    async with running_broker() as run:
        client = await run.five("c", session_expiry_s=10)
        await client.subscribe(("a", 1))
        client.send(Disconnect())
        await run.sink.until_event("client", "c")
        run.advance(9)
        assert run.count("sessions") == 1
        run.advance(3)

        assert run.count("sessions") == run.count("subscriptions") == 0
        assert run.count("sessions_expired") == 1


async def test_a_goodbye_may_change_the_expiry_but_not_begin_one():
    async with running_broker() as run:
        client = await run.five("c", session_expiry_s=10)
        client.send(Disconnect(properties=Properties(session_expiry_s=0)))
        await run.sink.until_event("client", "c")
        assert run.count("sessions") == 0
        other = await run.five("d")
        other.send(Disconnect(properties=Properties(session_expiry_s=5)))

        (last,) = await other.ended()
        assert last.reason == Reason.PROTOCOL_ERROR


async def test_a_message_expires_in_the_queue_and_tells_the_rest():
    async with running_broker() as run:
        reader = await run.five("reader", session_expiry_s=100)
        await reader.subscribe(("a", 1))
        reader.send(Disconnect())
        await run.sink.until_event("client", "reader")
        writer = await run.five("writer")
        writer.publish("a", b"short", 1, 1, properties=Properties(message_expiry_s=5))
        writer.publish("a", b"long", 1, 2, properties=Properties(message_expiry_s=50))
        for _ in range(2):
            await writer.acknowledged()
        run.advance(10)
        back = await run.five("reader", session_expiry_s=100, clean_start=False)
        got = await back.message()

        assert (got.payload, got.properties.message_expiry_s) == (b"long", 40)
        assert run.count("dropped_expired") == 1


async def test_a_retained_message_expires():
    async with running_broker() as run:
        writer = await run.five("writer")
        writer.publish("a", b"x", retain=True, properties=Properties(message_expiry_s=5))
        await writer.nothing()
        run.advance(6)
        reader = await run.client("reader")
        await reader.subscribe(("#", 0))

        await reader.nothing()
        assert run.count("retained_messages") == 0


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_lost_client_leaves_its_will_also_to_the_sink(version):
    async with running_broker() as run:
        reader = await run.client("reader")
        await reader.subscribe(("keep/state", 1))
        client = await run.client("c", version, will=WILL)
        client.drop()
        got = await reader.message()
        await run.sink.until(1)

        assert (got.payload, got.qos, got.retain) == (b"gone", 1, False)
        assert run.count("retained_messages") == 1
        assert run.sink.payloads == [b"gone"]


@pytest.mark.parametrize(("reason", "expected"), [(0, 0), (4, 1)])
async def test_a_goodbye_withdraws_the_will_unless_it_asks_for_it(reason, expected):
    async with running_broker() as run:
        client = await run.client("c", V5, will=WILL)
        client.send(Disconnect(reason=reason))
        await run.sink.until_event("client", "c")

        assert run.count("wills_published") == expected


async def test_a_delayed_will_is_void_when_the_client_returns_in_time():
    will = Will(topic="a", payload=b"gone", properties=Properties(will_delay_s=10))
    async with running_broker() as run:
        reader = await run.client("reader")
        await reader.subscribe(("a", 0))
        for number in range(2):
            client = await run.five("c", session_expiry_s=100, will=will, clean_start=False)
            client.drop()
            await run.sink.until(0)
            await until(lambda: run.count("connections") <= 1)
            run.advance(8 + number * 5)

        assert (await reader.message()).payload == b"gone"
        assert run.count("wills_published") == 1


async def test_a_delayed_will_comes_at_the_end_of_its_session_at_the_latest():
    will = Will(topic="keep/a", payload=b"gone", properties=Properties(will_delay_s=50))
    async with running_broker() as run:
        client = await run.five("c", session_expiry_s=5, will=will)
        client.drop()
        await run.sink.until_event("lost", "c")
        run.advance(7)
        await run.sink.until(1)

        assert run.count("sessions") == 0


async def test_a_silent_client_is_sent_away_after_one_and_a_half_keepalives():
    async with running_broker() as run:
        client = await run.client("c", V5, keep_alive_s=10)
        run.advance(14)
        await client.nothing()
        run.advance(14)
        await client.nothing()
        run.advance(17)

        (last,) = await client.ended()
        assert last.reason == Reason.KEEP_ALIVE_TIMEOUT
        assert ("keepalive", "c") in run.sink.events


async def test_after_a_stall_of_the_loop_clients_get_another_moment():
    async with running_broker() as run:
        client = await run.client("c", keep_alive_s=10)
        run.clock.seconds += 60
        run.core.on_time()

        await client.nothing()


async def test_publishing_keeps_a_client_alive():
    async with running_broker() as run:
        client = await run.client("c", keep_alive_s=10)
        for number in range(6):
            run.advance(10)
            client.publish("keep/a", b"")
            await run.sink.until(number + 1)

        assert run.count("keepalive_timeouts") == 0


async def test_sessions_and_retained_messages_survive_a_restart(tmp_path):
    clock = HandClock()
    async with running_broker(data_dir=tmp_path, clock=clock) as run:
        client = await run.five("c", session_expiry_s=1000, clean_start=False)
        await client.subscribe(("a/#", 2), ("$share/g/b", 1), number=7)
        run.broker.publish("a/1", b"sent", qos=1)
        sent = await client.message()
        run.broker.publish("r", b"kept", qos=1, retain=True)
        run.broker.publish("forgotten", b"kept", retain=True)
        run.broker.publish("forgotten", b"", retain=True)
        client.drop()
        await run.sink.until_event("lost", "c")
        run.broker.publish("a/2", b"waits", qos=2)
        run.broker.publish("a/3", b"waits too", qos=1)
    async with running_broker(data_dir=tmp_path, clock=clock) as run:
        assert (run.count("sessions"), run.count("subscriptions"), run.count("retained_messages")) == (1, 2, 1)
        back = await RawClient.open(run.port, V5)
        assert (
            await back.connect("c", clean_start=False, properties=Properties(session_expiry_s=1000))
        ).session_present
        got = [await back.message() for _ in range(3)]
        assert [(item.payload, item.qos, item.dup) for item in got] == [
            (b"sent", 1, True),
            (b"waits", 2, False),
            (b"waits too", 1, False),
        ]
        assert got[0].packet_id == sent.packet_id
        assert got[1].properties.subscription_ids == (7,)
        for item in got:
            back.ack(item.packet_id, kinds.PUBREC if item.qos == 2 else kinds.PUBACK)
        back.ack((await back.acknowledged(kinds.PUBREL)).packet_id, kinds.PUBCOMP)
        await back.subscribe(("r", 0))
        assert (await back.message()).payload == b"kept"
    async with running_broker(data_dir=tmp_path, clock=clock) as run:
        last = await run.five("c", clean_start=False)

        await last.nothing()


async def test_a_session_that_expired_while_the_broker_was_down_is_gone(tmp_path):
    clock = HandClock()
    async with running_broker(data_dir=tmp_path, clock=clock) as run:
        client = await run.five("c", session_expiry_s=10)
        await client.subscribe(("a", 1))
    clock.seconds += 60
    async with running_broker(data_dir=tmp_path, clock=clock) as run:
        run.advance(1)

        assert run.count("sessions") == 0


async def test_a_qos_2_message_taken_before_a_restart_is_not_taken_again(tmp_path):
    async with running_broker(data_dir=tmp_path) as run:
        client = await run.client("c", clean_start=False)
        client.publish("keep/a", b"once", 2, 5)
        await client.acknowledged(kinds.PUBREC)
    async with running_broker(data_dir=tmp_path) as run:
        client = await run.client("c", clean_start=False)
        client.publish("keep/a", b"once", 2, 5, dup=True)
        await client.acknowledged(kinds.PUBREC)

        assert run.sink.payloads == []


async def test_a_clean_start_leaves_nothing_in_the_store(tmp_path):
    async with running_broker(data_dir=tmp_path) as run:
        client = await run.client("c", clean_start=False)
        await client.subscribe(("a", 1))
        client.drop()
        await run.sink.until_event("lost", "c")
        run.broker.publish("a", b"x", qos=1)
        await run.client("c", clean_start=True)
    async with running_broker(data_dir=tmp_path) as run:
        assert run.count("sessions") == 0
        back = await run.client("c", clean_start=False)
        await back.nothing()


async def test_a_broken_store_is_put_aside(tmp_path, caplog):
    (tmp_path / "broker.sqlite").write_bytes(b"this is no database" * 100)
    async with running_broker(data_dir=tmp_path) as run:
        assert run.count("persistence_errors") == 1

    assert (tmp_path / "broker.broken").exists()
    assert "put aside" in caplog.text


async def test_a_newer_store_is_refused(tmp_path):
    import sqlite3

    from broker.native.sqlite_store import NewerStoreError

    connection = sqlite3.connect(tmp_path / "broker.sqlite")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(NewerStoreError):
        async with running_broker(data_dir=tmp_path):
            pass


async def test_a_stop_says_goodbye():
    sink = RecordingSink()
    async with running_broker(sink=sink) as run:
        client = await run.client("c", V5, will=WILL)
        await run.broker.stop()

        (last,) = await client.ended()
        assert last.reason == Reason.SERVER_SHUTTING_DOWN
    assert sink.events[-1] == ("stop", "c")
    assert sink.payloads == []
