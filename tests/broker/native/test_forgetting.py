"""What the broker keeps of topics is counted and forgotten, on the disk too; other topics lose nothing."""

from __future__ import annotations

from broker.native.forgetting import KeptOf
from tests.helpers.mqtt_peer import running_broker, until


async def away(run, *filters):
    """A client with a persistent session, gone."""
    client = await run.client("away", clean_start=False)
    await client.subscribe(*((one, 1) for one in filters))
    client.drop()
    await until(lambda: run.count("connections") == 0)


async def test_retained_and_waiting_messages_are_forgotten_for_good(tmp_path):
    async with running_broker(data_dir=tmp_path) as run:
        await away(run, "m/#")
        for name in ("A", "AB", "B"):
            run.broker.publish(f"m/{name}/state", b"12345", qos=1, retain=True)
            run.broker.publish(f"m/{name}/cmd", b"1", qos=1)

        kept = await run.broker.kept_below("m/A/")
        assert (kept.retained, kept.queued) == (1, 2)
        assert kept.queued_bytes > kept.retained_bytes > 0
        assert await run.broker.forget_below("m/A/") == kept
        assert await run.broker.kept_below("m/A/") == KeptOf(0, 0, 0, 0)
        assert run.count("retained_messages") == 2
    async with running_broker(data_dir=tmp_path) as run:
        assert await run.broker.kept_below("m/A/") == KeptOf(0, 0, 0, 0)
        for name in ("AB", "B"):
            assert (await run.broker.kept_below(f"m/{name}/"))[::2] == (1, 2)


async def test_the_queue_has_room_for_what_was_forgotten(tmp_path):
    async with running_broker(data_dir=tmp_path, max_queued_messages=2) as run:
        await away(run, "m/#")
        for _ in range(3):
            run.broker.publish("m/A/cmd", b"1", qos=1)
        assert (await run.broker.forget_below("m/A/")).queued == 2
        for _ in range(2):
            run.broker.publish("m/B/cmd", b"1", qos=1)
        assert (await run.broker.kept_below("m/B/")).queued == 2
