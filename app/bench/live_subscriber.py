"""A console's end of the live feed for benches, as a process of its own: paho, decoding each picture of the fleet.

`python -m app.bench.live_subscriber` reads a grant as JSON from standard input, prints `listening`, and at the end of
its input one JSON object of what came.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from app.client.live_decoding import decode_fleet


def main() -> None:
    """Listen until told otherwise."""
    grant = json.loads(sys.stdin.readline())
    ages_ms: list[float] = []
    sizes: list[int] = []
    rows: list[int] = []
    fresh: list[int] = []
    decode_s = 0.0
    listening = threading.Event()

    def on_message(_client: mqtt.Client, _userdata: Any, message: mqtt.MQTTMessage) -> None:
        nonlocal decode_s
        arrived_us = time.time_ns() // 1000
        began = time.thread_time()
        frame = decode_fleet(bytes(message.payload))
        decode_s += time.thread_time() - began
        ages_ms.append((arrived_us - frame.at_us) / 1000)
        sizes.append(len(message.payload))
        rows.append(len(frame.number))
        fresh.append(int(((frame.age_ms >= 0) & (frame.age_ms < 3000)).sum()))

    def on_connect(*_told: Any) -> None:
        client.subscribe([(topic, 0) for topic in grant["topics"]])

    def on_subscribe(*_told: Any) -> None:
        listening.set()

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set(grant["username"], grant["token"])
    client.on_message = on_message
    client.on_connect = on_connect
    client.on_subscribe = on_subscribe
    client.connect(grant["host"], grant["port"])
    client.loop_start()
    listening.wait(30)
    print("listening", flush=True)
    sys.stdin.read()
    client.loop_stop()
    print(json.dumps({"ages_ms": ages_ms, "sizes": sizes, "rows": rows, "fresh": fresh, "decode_s": decode_s}))


if __name__ == "__main__":
    main()
