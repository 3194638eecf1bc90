"""One connection to an external broker, in a thread of its own."""

from __future__ import annotations

import collections
import contextlib
import logging
import random
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from broker.external_border import Border, LinkCounters, Publication, Received
from broker.external_client import BufferedClient, close_client, connect, make_client
from broker.external_socket import BufferedSocket
from broker.options import Upstream

log = logging.getLogger(__name__)

BATCH_MESSAGES = 2_048
# Messages handed over that the loop has not taken yet; above, the socket is left alone, and the broker keeps them.
MOST_AHEAD = 20_000
# After a small batch, more may come together in the next: each batch wakes the loop.
_SMALL_BATCH = 256
_GATHER_S = 0.004
_TURN_S = 0.5
CONNACK_S = 10.0
_LAST_WORDS_S = 2.0
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
# Publications that wait for the broker; above, they are dropped and counted.
MOST_PUBLICATIONS = 10_000
_NO_MATCHING_SUBSCRIBERS = 0x10
_UNSUPPORTED_VERSION = 0x84
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Link:
    """A consumer of some filters, or (without any) the hub's way to publish.

    Of a session that the broker keeps nothing is lost: what was not acknowledged comes again, and what the loop
    acknowledges of an earlier connection is not told the broker, which may use the packet id for another message now.
    """

    def __init__(self, upstream: Upstream, name: str, filters: Sequence[str], border: Border) -> None:
        self.upstream = upstream
        self.filters = tuple(filters)
        self.counters = LinkCounters()
        self.up = False
        """Connected, and subscribed to everything."""
        self.failed = False
        """The last attempt to connect has failed."""
        self.last_message_at = 0.0
        self.taken = 0
        """Messages that the loop has taken over; written by the loop alone."""
        self._name = name
        self._border = border
        self._version = 5
        self._only_3_1_1 = False
        self._client: BufferedClient | None = None
        self._generation = 0
        self._handed = 0
        self._held = False
        self._stopping = False
        self._acks: collections.deque[tuple[int, Sequence[int]]] = collections.deque()
        self._publications: collections.deque[Publication] = collections.deque()
        self._on_their_way: dict[int, Publication] = {}
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._connack: ReasonCode | None = None
        self._said = ""
        self._topics: list[str] = []
        self._payloads: list[bytes] = []
        self._packet_ids: list[int] = []
        self._retained: list[bool] = []
        self._on_taken: list[Callable[[], None]] = []
        self._unrouted: list[str] = []
        self._thread = threading.Thread(target=self._run, name=f"external broker {name}", daemon=True)

    # -- for the loop

    def start(self) -> None:
        """Connect, and again whenever the connection ends."""
        self._thread.start()

    def stop(self) -> None:
        """Send what was acknowledged, disconnect; `join` waits for it."""
        self._stopping = True
        self.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread; blocks."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._wake_in.close()
            self._wake_out.close()

    def acknowledge(self, generation: int, packet_ids: Sequence[int]) -> None:
        """Answer messages of a connection."""
        self._acks.append((generation, packet_ids))
        self.wake()

    def publish(self, publication: Publication) -> bool:
        """Have it sent; false when too many wait."""
        if len(self._publications) + len(self._on_their_way) >= MOST_PUBLICATIONS:
            return False
        self._publications.append(publication)
        self.wake()
        return True

    def hold(self, hold: bool) -> None:
        """Leave the socket alone, or read it again."""
        if hold and not self._held:
            self.counters.reads_held += 1
        self._held = hold
        self.wake()

    def wake(self) -> None:
        """Have the thread look."""
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_out.send(b"x")

    @property
    def ahead(self) -> int:
        """Messages handed over that the loop has not taken."""
        return self._handed - self.taken

    # -- the thread

    def _run(self) -> None:
        attempt = 0
        while not self._stopping:
            if self._held and self.filters:
                # Connecting would have the broker send again what there is no room for.
                self._rest(_LONGEST_DELAY_S)
                continue
            try:
                let_in = self._session()
            except Exception:
                log.exception("external broker %s, %s: the connection failed", self.upstream.address, self._name)
                self._drop_client()
                self.counters.failures += 1
                let_in = False
            attempt = 0 if let_in else attempt + 1
            self.up = False
            self.counters.unacknowledged = 0
            if not self._stopping:
                self.failed = True
                self._border.changed()
                self._rest(backoff_s(attempt), through_wakes=True)

    def _rest(self, seconds: float, *, through_wakes: bool = False) -> None:
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_in, _READ)
            while not self._stopping and (left := until - time.monotonic()) > 0:
                if selector.select(left):
                    self._drain_wakes()
                    if not through_wakes:
                        return

    def _session(self) -> bool:
        """One connection, from its begin to its end; whether the broker let us in."""
        self._connack = None
        # From here on, what is acknowledged of the connection before is not told any more.
        self._generation += 1
        try:
            client = self._client = self._client or self._made_client()
            connect(client, self.upstream, self._version, keeps=bool(self.filters))
        except (OSError, ValueError) as error:
            self._say(f"can not be reached: {error}")
            self.counters.failures += 1
            return False
        self._serve(client)
        refusal = self._refusal()
        if refusal is not None:
            self._say(refusal)
            self.counters.failures += 1
            return False
        if self._version == paho.MQTTv311 and not self._only_3_1_1:
            self._use_version(paho.MQTTv5)
        if not self._stopping:
            self._say("closed the connection")
        return True

    def _refusal(self) -> str | None:
        """Why the broker did not let us in, if so; the next attempt may speak another version then."""
        if self._connack is None:
            # Old brokers answer a version they do not know by closing, or in a way that is none for us.
            if not self._only_3_1_1:
                self._use_version(paho.MQTTv311 if self._version == paho.MQTTv5 else paho.MQTTv5)
            return "closed the connection without an answer"
        if not self._connack.is_failure:
            return None
        if self._version == paho.MQTTv5 and self._connack.value == _UNSUPPORTED_VERSION:
            self._only_3_1_1 = True
            self._use_version(paho.MQTTv311)
        return f"refused us: {self._connack}"

    def _use_version(self, version: int) -> None:
        self._version = version
        self._drop_client()

    def _drop_client(self) -> None:
        """The next attempt makes a new client; what the old one had not published waits for it."""
        if self._client is not None:
            close_client(self._client)
        self._client = None
        self._publications.extendleft(reversed(self._on_their_way.values()))
        self._on_their_way.clear()

    def _serve(self, client: BufferedClient) -> None:
        deadline = time.monotonic() + CONNACK_S
        sock = client.buffered()
        if sock is None:
            return
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_in, _READ)
            watched = 0
            while client.buffered() is sock:
                try:
                    if self._stopping:
                        self._say_goodbye(client, sock)
                        return
                    self._obey(client)
                    client.loop_write()
                    sock.flush()
                    reads = self._reads()
                    wanted = (_READ if reads else 0) | (_WRITE if sock.unsent else 0)
                    watched = _watch(selector, sock, watched, wanted)
                    ready = dict.fromkeys(
                        key.fd for key, events in selector.select(0 if sock.unread and reads else _TURN_S)
                    )
                    if self._wake_in.fileno() in ready:
                        self._drain_wakes()
                    if reads and (sock.unread or sock.fileno() in ready):
                        self._read(client, sock)
                    self._hand_over()
                    # A socket that nobody reads holds the answer to the ping too.
                    if reads:
                        client.loop_misc()
                except OSError as error:
                    self._say(f"connection lost: {error}")
                    break
                if self._connack is None and time.monotonic() > deadline:
                    break
            self._hand_over()
            close_client(client)

    def _say_goodbye(self, client: BufferedClient, sock: BufferedSocket) -> None:
        self._obey(client)
        client.loop_write()
        until = time.monotonic() + _LAST_WORDS_S
        with selectors.DefaultSelector() as selector:
            selector.register(sock.fileno(), _WRITE)
            sock.flush()
            while sock.unsent and (left := until - time.monotonic()) > 0:
                selector.select(left)
                sock.flush()
        close_client(client)

    def _reads(self) -> bool:
        return not self.filters or self._connack is None or (not self._held and self.ahead < MOST_AHEAD)

    def _read(self, client: BufferedClient, sock: BufferedSocket) -> None:
        sock.blocked = False
        while not sock.blocked and len(self._topics) < BATCH_MESSAGES:
            if client.loop_read() != paho.MQTT_ERR_SUCCESS or client.buffered() is not sock:
                return

    def _hand_over(self) -> None:
        if self._topics:
            count = len(self._topics)
            self.counters.received += count
            self.counters.batches += 1
            self.last_message_at = time.monotonic()
            self._handed += count
            received = Received(
                self,
                self._generation,
                time.time_ns() // 1000,
                self._topics,
                self._payloads,
                self._packet_ids,
                self._retained,
            )
            self._topics, self._payloads, self._packet_ids, self._retained = [], [], [], []
            self._border.received(received)
            if count < _SMALL_BATCH:
                time.sleep(_GATHER_S)
        if self._on_taken:
            taken, self._on_taken = self._on_taken, []
            self._border.taken(taken)
        if self._unrouted:
            unrouted, self._unrouted = self._unrouted, []
            self._border.unrouted(unrouted)

    def _obey(self, client: BufferedClient) -> None:
        counters = self.counters
        while self._acks:
            generation, packet_ids = self._acks.popleft()
            if generation != self._generation:
                counters.acks_void += len(packet_ids)
                continue
            for packet_id in packet_ids:
                client.ack(packet_id, 1)
            counters.acknowledged += len(packet_ids)
            counters.unacknowledged -= len(packet_ids)
        while self._publications and self.up:
            publication = self._publications.popleft()
            info = client.publish(publication.topic, publication.payload, publication.qos, publication.retain)
            counters.published += 1
            self._on_their_way[info.mid] = publication

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(self._wake_in.recv(4096)) == 4096:
                pass

    def _say(self, what: str) -> None:
        """Once for each reason, not for each attempt."""
        if what != self._said:
            self._said = what
            log.warning("external broker %s, %s: %s", self.upstream.address, self._name, what)

    # -- paho's client and what it calls, all in the thread

    def _made_client(self) -> BufferedClient:
        name = f"{self.upstream.client_id}-{self._name}"
        client = make_client(self.upstream, name, self._version, keeps=bool(self.filters))
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client

    def _on_connect(
        self, client: paho.Client, _userdata: Any, flags: paho.ConnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        self._connack = reason
        if reason.is_failure:
            return
        counters = self.counters
        first = counters.connects == 0
        counters.connects += 1
        counters.unacknowledged = 0
        self._said = ""
        self.failed = False
        # What has QoS 0 was sent or is gone.
        self._on_their_way = {mid: one for mid, one in self._on_their_way.items() if one.qos}
        if self.filters and not first and not flags.session_present:
            counters.sessions_lost += 1
            log.warning(
                "external broker %s has not kept our session: what it had not delivered is lost", self.upstream.address
            )
        log.info(
            "external broker %s: %s connected, MQTT %s, session %s",
            self.upstream.address,
            self._name,
            "5" if self._version == paho.MQTTv5 else "3.1.1",
            "kept" if flags.session_present else "new",
        )
        if not self.filters:
            self._is_up()
        elif self._version == paho.MQTTv5:
            # Kept messages only when the subscription is new: they are old news, once is enough.
            options = SubscribeOptions(qos=1, noLocal=not self.upstream.shared_group, retainHandling=1)
            client.subscribe([(self._shared(one), options) for one in self.filters])
        elif first or not flags.session_present:
            client.subscribe([(self._shared(one), 1) for one in self.filters])
        else:
            self._is_up()

    def _shared(self, pattern: str) -> str:
        group = self.upstream.shared_group
        return f"$share/{group}/{pattern}" if group else pattern

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        denied = [one for one, reason in zip(self.filters, reasons, strict=False) if reason.is_failure]
        if denied:
            self.counters.subscribe_denied += len(denied)
            log.error("external broker %s: may not subscribe to %s", self.upstream.address, ", ".join(denied))
        self._is_up()

    def _is_up(self) -> None:
        self.up = True
        self._border.changed()

    def _on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self.counters.malformed += 1
            if message.qos:
                client.ack(message.mid, message.qos)
            return
        self._topics.append(topic)
        # paho's buffer is one that may be changed.
        self._payloads.append(bytes(message.payload))
        self._packet_ids.append(message.mid if message.qos else 0)
        self._retained.append(message.retain)
        if message.qos:
            self.counters.unacknowledged += 1

    def _on_publish(self, _client: paho.Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        publication = self._on_their_way.pop(mid, None)
        if publication is None:
            return
        if reason.is_failure:
            self.counters.publish_refused += 1
        elif reason.value == _NO_MATCHING_SUBSCRIBERS:
            self.counters.publish_unrouted += 1
            self._unrouted.append(publication.topic)
        elif publication.on_taken is not None:
            self._on_taken.append(publication.on_taken)


def backoff_s(attempt: int) -> float:
    """How long to wait before the next attempt: twice as long each time, up to half a minute, and never all at once."""
    longest = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(attempt, 16))
    return random.uniform(longest / 2, longest)  # noqa: S311 - spreads load, hides nothing


def _watch(selector: selectors.BaseSelector, sock: BufferedSocket, watched: int, wanted: int) -> int:
    if wanted != watched:
        if not watched:
            selector.register(sock, wanted)
        elif not wanted:
            selector.unregister(sock)
        else:
            selector.modify(sock, wanted)
    return wanted
