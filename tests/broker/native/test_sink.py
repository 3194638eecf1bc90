"""What the sink gets, when clients are answered, and what access rules let through."""

from __future__ import annotations

import asyncio

import pytest

from broker.engine import Access
from broker.packets import V5, V311, Disconnect, ProtocolError, Reason, kinds
from tests.helpers.mqtt_peer import RawClient, RecordingSink, TableAuthenticator, running_broker, until

MODULE = Access("module 1", "module", publish=("keep/1/#",), subscribe=("keep/1/cmd",))


async def test_repeated_messages_come_in_order_with_handles_and_one_stamp():
    async with running_broker() as run:
        client = await run.client("c")
        for number in range(100):
            client.publish(f"keep/{number % 2}", str(number).encode())
        await run.sink.until(100)

        assert run.sink.payloads == [str(number).encode() for number in range(100)]
        assert run.sink.batches[0].arrival_us == int(run.clock.seconds * 1e6)
        assert run.sink.batches[-1].handles[-1] == ("c", "keep/1")
        assert sorted(run.sink.opened) == ["keep/0", "keep/1"]


async def test_a_topic_the_sink_does_not_want_is_answered_by_the_broker():
    async with running_broker(sink=RecordingSink(manual=True)) as run:
        client = await run.client("c")
        client.publish("other", b"", 1, 4)

        assert (await client.acknowledged()).packet_id == 4
        assert run.sink.batches == []


@pytest.mark.parametrize("version", [V311, V5])
async def test_guaranteed_messages_are_answered_after_the_commit_and_in_order(version):
    async with running_broker(sink=RecordingSink(manual=True)) as run:
        client = await run.client("c", version)
        client.publish("keep/a", b"0", 1, 1)
        client.publish("keep/a", b"1", 0)
        client.publish("keep/a", b"2", 1, 2)
        client.publish("keep/b", b"3", 2, 3)
        client.publish("other", b"4", 1, 4)
        await run.sink.until(4)
        marks = [mark for batch in run.sink.batches for mark in batch.guaranteed]
        assert marks == [True, False, True, True]
        await client.nothing()
        for batch in run.sink.batches:
            batch.acknowledge()
            batch.acknowledge()

        numbers = [((await client.receive()).packet_id) for _ in range(4)]
        assert sorted(numbers) == [1, 2, 3, 4]
        assert [number for number in numbers if number != 3] == [1, 2, 4]
        assert run.count("acknowledged") == 4


async def test_an_answer_for_a_client_that_has_gone_goes_nowhere():
    async with running_broker(sink=RecordingSink(manual=True)) as run:
        client = await run.client("c")
        client.publish("keep/a", b"0", 1, 1)
        await run.sink.until(1)
        client.drop()
        await run.sink.until_event("lost", "c")
        run.sink.batches[0].acknowledge()
        other = await run.client("c")

        await other.nothing()


async def test_a_qos_2_message_sent_again_after_a_reconnect_is_answered_only_once_it_is_safe():
    async with running_broker(sink=RecordingSink(manual=True)) as run:
        client = await run.client("c", clean_start=False)
        client.publish("keep/a", b"0", 2, 1)
        await run.sink.until(1)
        client.drop()
        await run.sink.until_event("lost", "c")
        again = await run.client("c", clean_start=False)
        again.publish("keep/a", b"0", 2, 1, dup=True)
        await again.nothing()
        run.sink.batches[0].acknowledge()

        assert (await again.acknowledged(kinds.PUBREC)).packet_id == 1
        assert len(run.sink.payloads) == 1


async def test_a_client_over_its_receive_maximum_is_sent_away():
    async with running_broker(sink=RecordingSink(manual=True), receive_maximum=5) as run:
        client = await run.five("c")
        for number in range(1, 7):
            client.publish("keep/a", b"", 1, number)

        (last,) = await client.ended()
        assert isinstance(last, Disconnect)
        assert last.reason == Reason.RECEIVE_MAXIMUM_EXCEEDED
        assert run.count("limit_receive_maximum") == 1


async def test_a_3_1_1_client_over_the_window_is_read_again_after_its_answers():
    async with running_broker(sink=RecordingSink(manual=True), receive_maximum=5) as run:
        client = await run.client("c")
        connection = next(iter(run.core.connections))
        for number in range(1, 20):
            client.publish("keep/a", b"", 1, number)
            await client.writer.drain()
            await asyncio.sleep(0)
        await until(lambda: connection.paused)
        taken = len(run.sink.payloads)
        run.sink.manual = False
        for batch in run.sink.batches:
            batch.acknowledge()
        for number in range(1, 20):
            assert (await client.acknowledged()).packet_id == number

        assert taken <= 19
        assert run.count("limit_receive_maximum") >= 1


async def test_while_held_only_guaranteed_senders_wait():
    async with running_broker() as run:
        sure, quick = await run.client("sure"), await run.client("quick")
        sure.publish("keep/a", b"first", 1, 1)
        await sure.acknowledged()
        run.broker.hold_guaranteed(True)
        sure.publish("keep/a", b"held", 1, 2)
        await sure.writer.drain()
        quick.publish("keep/a", b"free")
        await run.sink.until(2)
        await quick.nothing()
        assert run.sink.payloads == [b"first", b"free"]
        # Nobody reads it: its silence is not its fault.
        run.advance(2000)
        run.broker.hold_guaranteed(False)

        await sure.acknowledged()
        assert run.sink.payloads == [b"first", b"free", b"held"]


async def test_a_new_guaranteed_sender_is_held_too():
    async with running_broker() as run:
        run.broker.hold_guaranteed(True)
        client = await run.client("c")
        client.publish("keep/a", b"1", 1, 1)
        await client.acknowledged()
        client.publish("keep/a", b"2", 1, 2)
        await client.writer.drain()
        await (await run.client("other")).nothing()
        assert run.sink.payloads == [b"1"]
        run.broker.hold_guaranteed(False)

        await client.acknowledged()


async def test_forget_topics_asks_again():
    async with running_broker() as run:
        client = await run.client("c")
        client.publish("keep/a", b"1")
        await run.sink.until(1)
        run.broker.forget_topics()
        client.publish("keep/a", b"2")
        await run.sink.until(2)

        assert run.sink.opened == ["keep/a", "keep/a"]


async def test_a_sink_that_raises_ends_nobody(caplog):
    class Broken(RecordingSink):
        def accept(self, batch):
            raise ValueError("broken")

    async with running_broker(sink=Broken()) as run:
        client = await run.client("c")
        client.publish("keep/a", b"1")
        await client.nothing()

    assert "the sink raised" in caplog.text


def accounts() -> TableAuthenticator:
    return TableAuthenticator(one=(b"pw", MODULE), two=(b"pw", Access("module 2", "module", ("keep/2/#",))))


async def test_only_known_credentials_get_in():
    async with running_broker(authenticator=accounts()) as run:
        for version, wrong, none in ((V5, Reason.BAD_CREDENTIALS, Reason.NOT_AUTHORIZED), (V311, 4, 5)):
            client = await RawClient.open(run.port, version)
            assert (await client.connect("c", username="one", password=b"no")).reason == wrong
            client = await RawClient.open(run.port, version)
            assert (await client.connect("c")).reason == none
        assert run.count("connects_refused") == 4

        await run.client("c", username="one", password=b"pw")
        assert run.sink.events == [("connected", "c")]


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_denied_publish_is_dropped_and_5_0_is_told(version):
    async with running_broker(authenticator=accounts()) as run:
        client = await run.client("c", version, username="one", password=b"pw")
        client.publish("keep/2/tele", b"", 0)
        client.publish("keep/2/tele", b"", 1, 1)
        assert (await client.acknowledged()).reason == (Reason.NOT_AUTHORIZED if version == V5 else 0)
        client.publish("keep/2/tele", b"", 2, 2)
        assert (await client.acknowledged(kinds.PUBREC)).reason == (Reason.NOT_AUTHORIZED if version == V5 else 0)
        client.publish("keep/1/tele", b"mine", 1, 3)
        await client.acknowledged()

        assert run.sink.payloads == [b"mine"]
        assert run.count("publish_denied") == 3


@pytest.mark.parametrize("version", [V311, V5])
async def test_a_subscription_wider_than_allowed_is_denied(version):
    async with running_broker(authenticator=accounts(), refuse_subscribe=("no",)) as run:
        client = await run.client("c", version, username="one", password=b"pw")
        denied = Reason.NOT_AUTHORIZED if version == V5 else 0x80

        assert await client.subscribe(
            ("keep/1/cmd", 1), ("keep/+/cmd", 1), ("#", 0), ("$share/g/keep/1/cmd", 0), ("no", 0), ("$internal/#", 0)
        ) == bytes((1, denied, denied, 0, 0x80, denied))


async def test_what_is_denied_is_named_in_the_log(caplog):
    async with running_broker(authenticator=accounts()) as run:
        client = await run.client("c", V5, username="one", password=b"pw")
        for number in range(3):
            client.publish("keep/2/" + "x" * 100, b"", 1, number + 1)
            await client.acknowledged()
        await client.subscribe(("keep/2/#", 1))
        run.advance(61)
        other = await run.client("d", V5, username="one", password=b"pw")
        other.publish("keep/2/\x81", b"", 1, 1)
        await other.acknowledged()

    lines = [line for line in caplog.messages if "denied" in line]
    assert lines == [
        f"publish_denied: client 'c': may not publish to 'keep/2/{'x' * 73}'...",
        "subscribe_denied: client 'c': may not subscribe to 'keep/2/#'",
        r"publish_denied: client 'd': may not publish to 'keep/2/\x81' (and 2 more that were not logged)",
    ]


async def test_a_will_its_client_may_not_publish_is_not_published():
    async with running_broker(authenticator=accounts()) as run:
        from broker.packets import Will

        client = await run.client("c", username="one", password=b"pw", will=Will(topic="keep/2/state", payload=b"x"))
        client.drop()
        await run.sink.until_event("lost", "c")

        assert run.count("publish_denied") == 1
        assert run.sink.payloads == []


async def test_nobody_takes_over_the_session_of_another_credential():
    async with running_broker(authenticator=accounts()) as run:
        first = await run.client("c", username="one", password=b"pw")
        thief = await RawClient.open(run.port, V5)

        assert (await thief.connect("c", username="two", password=b"pw")).reason == Reason.NOT_AUTHORIZED
        await first.nothing()


async def test_disconnect_by_subject():
    async with running_broker(authenticator=accounts()) as run:
        client = await run.client("c", V5, username="one", password=b"pw")
        other = await run.client("d", username="two", password=b"pw")
        assert run.broker.disconnect("module 1", "revoked") == 1

        (last,) = await client.ended()
        assert last.reason == Reason.ADMINISTRATIVE_ACTION
        assert ("revoked", "c") in run.sink.events
        await other.nothing()


async def test_anonymous_clients_are_kept_out_of_a_listener_that_is_not_for_them():
    from broker.options import Listener

    listeners = [Listener("test", 0, ("127.0.0.1",)), Listener("operators", 0, ("127.0.0.1",), anonymous=False)]
    async with running_broker(listeners=listeners) as run:
        await run.client("c")
        client = await RawClient.open(run.broker.addresses()["operators"][1])

        assert (await client.connect("d")).reason == 5


async def test_the_hub_can_not_publish_to_a_filter():
    async with running_broker() as run:
        with pytest.raises(ProtocolError):
            run.broker.publish("a/#", b"")


async def test_nothing_secret_is_logged(caplog):
    caplog.set_level("DEBUG")
    async with running_broker(authenticator=accounts()) as run:
        client = await RawClient.open(run.port)
        await client.connect("c", username="one", password=b"geheim-1")
        client = await run.client("c", username="one", password=b"pw")
        client.publish("keep/2/x", b"geheim-2")
        await client.nothing()

    assert "publish_denied" in caplog.text
    assert "geheim" not in caplog.text


@pytest.mark.parametrize("version", [V311, V5])
async def test_the_sink_hears_of_subscriptions_and_of_what_a_kept_session_holds(version):
    keeps = {"clean_start": False} if version == V311 else {"clean_start": False, "session_expiry_s": 600}
    async with running_broker() as run:
        connect = run.client if version == V311 else run.five
        client = await connect("c", **keeps)
        await client.subscribe(("a/cmd", 1), ("b/+", 0))
        assert run.sink.subscribed == [("c", "a/cmd"), ("c", "b/+")]
        assert (run.broker.receivers("a/cmd"), run.broker.receivers("b/1"), run.broker.receivers("a")) == (1, 1, 0)
        taken = []
        for payload in (b"1", b"2"):
            run.broker.publish("a/cmd", payload, qos=1, on_taken=lambda which=payload: taken.append(which))
        run.broker.publish("b/1", b"3", qos=1, on_taken=lambda: taken.append(b"3"))
        assert taken == [b"3"], "written with QoS 0 is all there is to know"
        client.ack((await client.message()).packet_id)
        await client.message()
        await until(lambda: taken == [b"3", b"1"])
        client.drop()
        await run.sink.until_event("lost", "c")
        assert run.broker.receivers("a/cmd") == 0
        run.broker.publish("a/cmd", b"4", qos=1)

        run.sink.subscribed.clear()
        await connect("c", **keeps)
        assert sorted(run.sink.subscribed) == [("c", "a/cmd", b"2", b"4"), ("c", "b/+")]


async def test_a_refused_subscription_is_none():
    async with running_broker(authenticator=TableAuthenticator(module=(b"pw", MODULE))) as run:
        client = await run.client("c", username="module", password=b"pw")
        await client.subscribe(("keep/2/cmd", 1), ("keep/1/cmd", 1))

        assert run.sink.subscribed == [("c", "keep/1/cmd")]
