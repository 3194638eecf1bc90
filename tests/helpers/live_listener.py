"""A console's end of the live feed in tests: paho on a real socket, messages in queues."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from typing import Any, Self

import paho.mqtt.client as mqtt

TIMEOUT_S = 20


class LiveListener:
    """Connects as somebody and keeps what comes, by topic. Use as an async context manager."""

    def __init__(self, address, username=None, token=None, *, client_id="", topics=(), version=mqtt.MQTTv311):
        self._address = address
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version)
        if username is not None:
            self.client.username_pw_set(username, token)
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message
        self.client.on_disconnect = self._on_disconnect
        self._topics = topics
        self.refused: Any = None
        self.granted: list[int] = []
        self._ready = threading.Event()
        self.ended = threading.Event()
        self._messages: dict[str, queue.Queue[bytes]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, grant: dict[str, Any], **more) -> LiveListener:
        """With the answer of POST /v1/live-grants."""
        return cls(
            (grant["host"], grant["port"]), grant["username"], grant["token"], **{"topics": grant["topics"], **more}
        )

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.client.connect, *self._address)
        self.client.loop_start()
        assert await asyncio.to_thread(self._ready.wait, TIMEOUT_S), "neither let in nor refused"
        return self

    async def __aexit__(self, *_exception):
        await asyncio.to_thread(self.client.disconnect)
        await asyncio.to_thread(self.client.loop_stop)

    async def message(self, topic: str) -> bytes:
        """The next message of a topic."""
        return await asyncio.to_thread(self._queue(topic).get, timeout=TIMEOUT_S)

    async def json(self, topic: str) -> Any:
        return json.loads(await self.message(topic))

    async def json_where(self, topic: str, wanted) -> Any:
        """The first message of a topic of which something is true."""
        while True:
            found = await self.json(topic)
            if wanted(found):
                return found

    async def wait_ended(self) -> None:
        """Wait until the other side has closed the connection."""
        assert await asyncio.to_thread(self.ended.wait, TIMEOUT_S), "still connected"

    def counted(self, topic: str) -> int:
        """How many messages wait to be looked at."""
        return self._queue(topic).qsize()

    def topics(self) -> set[str]:
        """Topics of which anything came."""
        return {topic for topic, found in self._messages.items() if found.qsize()}

    def _queue(self, topic):
        with self._lock:
            return self._messages.setdefault(topic, queue.Queue())

    def _on_connect(self, _client, _userdata, _flags, reason, _properties):
        if reason.is_failure:
            self.refused = reason
            self.client.disconnect()
            self._ready.set()
        elif self._topics:
            self.client.subscribe([(topic, 0) for topic in self._topics])
        else:
            self._ready.set()

    def _on_subscribe(self, _client, _userdata, _mid, reasons, _properties):
        self.granted += [reason.value for reason in reasons]
        self._ready.set()

    def _on_message(self, _client, _userdata, message):
        self._queue(message.topic).put(message.payload)

    def _on_disconnect(self, *_told):
        # paho would connect again with what has ended.
        self.client.disconnect()
        self.ended.set()
