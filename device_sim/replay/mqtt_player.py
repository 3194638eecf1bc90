"""Publishes the messages of a log at QoS 1 as one client, and counts what the broker acknowledged."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterable
from typing import Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from app.domain.errors import EnvironmentFault, OperatorInputError
from app.protocol.captures.mqtt_log import BadLine, LoggedMessage
from device_sim.replay.pace import Pace

# Enough for a fast line, and bounds what a stalled broker costs us.
MOST_UNACKNOWLEDGED = 1000
CONNECT_PATIENCE_S = 10.0
# How long the acknowledgements of the last messages are waited for.
CLOSING_PATIENCE_S = 30.0
_KEEP_ALIVE_S = 60
_FIRST_REFUSAL = 0x80
_MICROSECONDS = 1_000_000


@dataclasses.dataclass(slots=True)
class Counts:
    """What was played. `refused` are those a broker said no to (MQTT 5 alone says so)."""

    published: int = 0
    acknowledged: int = 0
    refused: int = 0
    bad_lines: int = 0


class MqttPlayer:
    """A connection to a broker. Use it as a context; entering raises a WattdeckError when it can not be made."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        username: str | None,
        password: str | None,
        client_id: str,
        stop: threading.Event,
        version: int = 5,
    ) -> None:
        self.counts = Counts()
        self._address = (host, port)
        self._stop = stop
        self._answered = threading.Event()
        self._refusal: str | None = None
        self._room = threading.Semaphore(MOST_UNACKNOWLEDGED)
        self._connected = threading.Event()
        protocol = MQTTProtocolVersion.MQTTv5 if version == 5 else MQTTProtocolVersion.MQTTv311
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=protocol)
        self._client.max_inflight_messages_set(MOST_UNACKNOWLEDGED)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_publish = self._on_publish
        if username is not None:
            self._client.username_pw_set(username, password)

    def __enter__(self) -> Self:
        host, port = self._address
        try:
            self._client.connect(host, port, keepalive=_KEEP_ALIVE_S)
        except (OSError, ValueError) as error:
            raise EnvironmentFault(f"no broker answers at {host}:{port}: {error}") from error
        self._client.loop_start()
        if not self._answered.wait(CONNECT_PATIENCE_S) or self._refusal is not None:
            self._end()
            why = self._refusal or f"it has not answered within {CONNECT_PATIENCE_S:g} s"
            raise OperatorInputError(f"the broker at {host}:{port} does not let us in: {why}")
        return self

    def __exit__(self, *_error: object) -> None:
        self._end()

    def play(self, lines: Iterable[LoggedMessage | BadLine], pace: Pace, interval_s: float) -> None:
        """Publish in order; returns when all were sent, or when stopped. Lines with times keep their distances."""
        last_us: int | None = None
        for line in lines:
            if isinstance(line, BadLine):
                self.counts.bad_lines += 1
                continue
            if line.time_us is not None and last_us is not None:
                after_s = (line.time_us - last_us) / _MICROSECONDS
            else:
                after_s = interval_s if self.counts.published else 0.0
            last_us = line.time_us
            if not pace.wait(after_s) or not self._publish(line):
                return

    def settle(self) -> None:
        """Wait until everything is acknowledged, the patience is over, or we are stopped."""
        deadline = time.monotonic() + CLOSING_PATIENCE_S
        while self._open() and time.monotonic() < deadline and not self._stop.wait(0.02):
            pass

    def _open(self) -> int:
        return self.counts.published - self.counts.acknowledged - self.counts.refused

    def _publish(self, line: LoggedMessage) -> bool:
        while not self._room.acquire(timeout=0.2):
            if self._stop.is_set():
                return False
        self.counts.published += 1
        try:
            self._client.publish(line.topic, line.payload, qos=1)
        except ValueError:
            # A topic or payload that MQTT has no room for: the log says more than a client could have published.
            self.counts.published -= 1
            self.counts.bad_lines += 1
            self._room.release()
        return True

    def _end(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, _client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._refusal = str(code) if code.is_failure else None
        self._answered.set()
        if not code.is_failure:
            self._connected.set()

    def _on_disconnect(
        self, _client: mqtt.Client, _userdata: object, _flags: object, code: ReasonCode, _properties: Properties | None
    ) -> None:
        self._connected.clear()
        if not self._answered.is_set():
            self._refusal = f"it closed the connection ({code})"
            self._answered.set()

    def _on_publish(
        self, _client: mqtt.Client, _userdata: object, _mid: int, code: ReasonCode, _properties: Properties | None
    ) -> None:
        if code.value >= _FIRST_REFUSAL:
            self.counts.refused += 1
        else:
            self.counts.acknowledged += 1
        self._room.release()


def password_of(text: str) -> str:
    """The password of a file: its first line."""
    return text.split("\n", 1)[0].rstrip("\r")


def address_of(text: str) -> tuple[str, int]:
    """HOST:PORT; raises OperatorInputError."""
    host, colon, port = text.rpartition(":")
    with contextlib.suppress(ValueError):
        if colon and host and 0 < int(port) <= 65_535:
            return host.strip("[]"), int(port)
    raise OperatorInputError(f"{text!r} is no address; give HOST:PORT, such as 127.0.0.1:1883")
