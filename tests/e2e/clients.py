"""MQTT clients and read-back for end-to-end tests."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paho.mqtt.client as mqtt

from tests.e2e.conftest import run_command

WAIT_S = 30


@contextmanager
def connected(hub, *, serial="", secret=None, client_id=None) -> Iterator[mqtt.Client]:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id or serial)
    if secret is not None:
        client.username_pw_set(serial, secret)
    host, port = hub.address("mqtt")
    client.connect(host, port)
    client.loop_start()
    try:
        eventually(client.is_connected, "never connected")
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def publish(client, serial, *readings):
    """Publish with QoS 1 and wait until each is acknowledged."""
    for message in publish_later(client, serial, *readings):
        message.wait_for_publish(WAIT_S)
        assert message.is_published()


def publish_later(client, serial, *readings):
    """Publish with QoS 1; the messages, to look at their acknowledgement."""
    return [client.publish(f"wd/v1/m/{serial}/tele", json.dumps(reading), qos=1) for reading in readings]


def stored(tmp_path, serial, *words):
    """What `./run read --csv` prints."""
    answer = run_command("read", "--data", tmp_path / "data", "--module", serial, "--csv", *words)
    assert answer.returncode == 0, answer.stderr
    return list(csv.DictReader(io.StringIO(answer.stdout)))


def sequences(tmp_path, serial):
    """The stored sequence numbers, in order of time."""
    return [int(row["seq"]) for row in stored(tmp_path, serial)]


def readings(count, first=0):
    """Readings of now, a millisecond apart."""
    now_ms = time.time_ns() // 1_000_000
    return [
        {"time_ms": now_ms + n, "boot_id": 1, "seq": first + n, "apparent_va": 1000 + n, "drawn_wh": 5000 + n}
        for n in range(count)
    ]


def eventually(true: Callable[[], object], otherwise: str = "did not happen") -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)
