"""A module's way to the broker: Wi-Fi, session, what is said first, and how the readings go out."""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.domain.reading import Reading
from app.protocol.codec import encode_json
from app.protocol.messages import Ack, Fota, Log, Message, State
from app.protocol.topics import Kind, build
from device_sim.modules import commands
from device_sim.modules.mqtt import ConnectionEnded, Login, MqttConnection

if TYPE_CHECKING:
    from device_sim.modules.module import Module

# Without an access point it looks around each so often.
WIFI_LOOK_S = 2.0
# The signal is looked at each so often while it is connected.
SIGNAL_LOOK_S = 1.0
# First pause after a failure, doubled up to the last, each spread by half: a street must not come back in one instant.
BACK_OFF_S = 1.0
LONGEST_BACK_OFF_S = 60.0
# Arrays of late readings: so many, each so often, so that the current ones have room.
LATE_AT_ONCE = 60
LATE_EACH_S = 1.0
WINDOW = 16
CONNECT_S = 10.0
ANSWER_S = 20.0
# However fast the story runs, a busy machine gets this long.
_LEAST_REAL_S = 5.0
# A delay shorter than this is not worth a timer.
_SHORTEST_S = 0.02
_WORDS_KEPT = 200
WILL = encode_json(State(online=False))


class LinkLost(ConnectionError):
    """The radio is gone."""


class Link:
    """One connection after the other."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._topics = {kind: build(module.spec.serial, kind) for kind in Kind}
        self._connection: MqttConnection | None = None
        # Cut off without a word; the hub believes in them until their keep-alive is over.
        self._ghosts: list[MqttConnection] = []
        # Everything but readings that waits to be said: bounded, the oldest give way.
        self._words: collections.deque[tuple[Kind, Message | list[Message]]] = collections.deque(maxlen=_WORDS_KEPT)
        self._birth_due = False
        self._wake = asyncio.Event()
        self._in_flight: dict[asyncio.Future[None], list[Reading]] = {}
        self._late_in_flight = 0
        self._held: list[Reading] = []
        self._down_since_us: int | None = None
        self.wifi_down_ms = 0
        self.round_trip_ms: int | None = None
        self.online = False

    def wake(self) -> None:
        """There is something to send."""
        self._wake.set()

    @property
    def has_said_all(self) -> bool:
        """Whether everything but readings was said and acknowledged."""
        return not self._words

    def announce(self) -> None:
        """What a birth says has changed: say it again."""
        self._birth_due = True
        self._wake.set()

    def say(self, kind: Kind, message: Message | list[Message]) -> None:
        """Send a message that is no reading, now or when there is a connection."""
        self._words.append((kind, message))
        self._wake.set()

    def say_log(self, lines: Sequence[Log]) -> None:
        """Send lines of the log."""
        if lines:
            self.say(Kind.LOG, list(lines))

    def say_ack(self, ack: Ack) -> None:
        """Send an answer."""
        self.say(Kind.ACK, ack)

    def say_fota(self, fota: Fota) -> None:
        """Send how far an update is."""
        self.say(Kind.FOTA, fota)

    def say_diag(self) -> None:
        """Send its health, if somebody listens: old health is of no use."""
        if self.online:
            self.say(Kind.DIAG, self._module.diag())

    async def run(self) -> None:
        """Connect again and again."""
        module = self._module
        pause_s = BACK_OFF_S
        while True:
            if not self._has_radio():
                await module.world.sleep(WIFI_LOOK_S * module.chance.uniform(0.5, 1.5))
                continue
            try:
                await self._session()
                pause_s = BACK_OFF_S
            except (OSError, TimeoutError) as error:
                was_online = self.online
                self._lose()
                if was_online:
                    pause_s = BACK_OFF_S
                module.log("info", "mqtt", f"no broker: {str(error) or type(error).__name__}")
            await module.world.sleep(pause_s * module.chance.uniform(0.5, 1.5))
            pause_s = min(LONGEST_BACK_OFF_S, 2 * pause_s)

    def stop(self, *, orderly: bool) -> None:
        """The module starts anew, in order or not."""
        connection = self._connection
        if connection is not None and orderly:
            connection.disconnect()
        self._lose()
        self._words.clear()
        self._held.clear()

    def close(self) -> None:
        """The simulation is over: close every socket."""
        if self._connection is not None:
            self._connection.abort()
        for ghost in self._ghosts:
            ghost.abort()
        self._ghosts.clear()

    def cut(self) -> None:
        """The broker is out of reach: the socket breaks at once."""
        if self._connection is not None:
            self._connection.abort()

    async def carry(self, size: int) -> None:
        """Take as long as the radio and the uplink take for so many bytes. Raises LinkLost."""
        module = self._module
        if not self._has_radio():
            raise LinkLost("no Wi-Fi")
        delay = module.radio.delay_s(module.world.now_us())
        if delay is None:
            raise LinkLost("nothing gets through")
        if module.wire.uplink_bytes_per_s is not None:
            delay += size / module.wire.uplink_bytes_per_s
        if delay >= _SHORTEST_S:
            await module.world.sleep(delay)

    async def _session(self) -> None:
        module = self._module
        if module.wire.broker_unreachable:
            raise ConnectionRefusedError("the broker is out of reach")
        login = Login(module.spec.serial, module.flash.secret, self._topics[Kind.STATE], WILL, module.spec.keep_alive_s)
        await self.carry(200)
        try:
            connection = await MqttConnection.open(
                module.address(), login, self._on_message, timeout_s=self._patience(CONNECT_S)
            )
        except ConnectionEnded:
            module.tally.refused += 1
            raise
        self._connection = connection
        module.tally.connects += 1
        for ghost in self._ghosts:
            ghost.abort()
        self._ghosts.clear()
        if module.clock.state == "never_set":
            module.synchronise()
        await self._publish(Kind.STATE, encode_json(self._birth()), retain=True)
        self._birth_due = False
        async with asyncio.timeout(self._patience(ANSWER_S)):
            await connection.subscribe(self._topics[Kind.CMD])
        self.online = True
        commands.after_boot(module)
        module.updating.wake()
        await self._serve(connection)

    async def _serve(self, connection: MqttConnection) -> None:
        module = self._module
        world = module.world
        late_due_us = world.now_us()
        connection.ended.add_done_callback(lambda _ended: self._wake.set())
        while not connection.ended.done():
            self._wake.clear()
            if not self._has_radio():
                raise LinkLost("no Wi-Fi")
            if module.wire.broker_unreachable:
                connection.abort()
                raise LinkLost("the broker is out of reach")
            if self._birth_due:
                self._birth_due = False
                await self._publish(Kind.STATE, encode_json(self._birth()), retain=True)
            while self._words:
                kind, message = self._words[0]
                await self._publish(kind, encode_json(message), qos=0 if kind is Kind.DIAG else 1)
                if self._words and self._words[0][1] is message:
                    self._words.popleft()
            await self._send_fresh(connection)
            if not self._late_in_flight and world.now_us() >= late_due_us and module.outbox.late:
                late_due_us = world.now_us() + round(LATE_EACH_S * 1e6)
                await self._send_late(connection)
            await connection.drained()
            await self._rest()
        raise ConnectionEnded("the connection is over")

    async def _rest(self) -> None:
        """Until there is something to do, the connection ends, or it is time to look at the signal."""
        try:
            async with asyncio.timeout(self._module.world.real_s(SIGNAL_LOOK_S)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _send_fresh(self, connection: MqttConnection) -> None:
        module = self._module
        while len(self._in_flight) < WINDOW:
            readings = module.outbox.take_fresh(1)
            if not readings:
                return
            reading = readings[0]
            if module.wire.shuffled:
                self._held.append(reading)
                if len(self._held) < module.wire.shuffled:
                    continue
                held, self._held = _disordered(self._held, module.chance), []
            else:
                held, self._held = [*self._held, reading], []
            for number, one in enumerate(held):
                try:
                    await self._send(connection, one)
                except OSError:
                    module.outbox.give_back(held[number:])
                    raise

    async def _send(self, connection: MqttConnection, reading: Reading) -> None:
        module, wire = self._module, self._module.wire
        payload = encode_json(reading)
        await self.carry(len(payload))
        if wire.garbage_share and module.chance.random() < wire.garbage_share:
            # A byte that begins neither JSON nor CBOR, then noise: this reading is lost.
            module.tally.garbage += 1
            connection.publish(self._topics[Kind.TELE], b"\x00" + module.chance.randbytes(max(1, len(payload) // 2)))
            return
        times = 2 if wire.duplicate_share and module.chance.random() < wire.duplicate_share else 1
        for _one in range(times):
            self._publish_readings(connection, [reading], payload, qos=module.flash.qos)

    async def _send_late(self, connection: MqttConnection) -> None:
        module = self._module
        readings = module.outbox.take_late(LATE_AT_ONCE)
        payload = encode_json(list(readings))
        try:
            await self.carry(len(payload))
            self._publish_readings(connection, readings, payload, qos=1)
        except OSError:
            module.outbox.give_back(readings)
            raise
        module.tally.resent += len(readings)

    def _publish_readings(self, connection: MqttConnection, readings: list[Reading], payload: bytes, qos: int) -> None:
        module = self._module
        sent_us = module.world.now_us()
        future = connection.publish(self._topics[Kind.TELE], payload, qos=qos)
        module.tally.sent += len(readings)
        if future is None:
            return
        late = bool(readings[0].resent)
        self._in_flight[future] = readings
        self._late_in_flight += late

        def settle(done: asyncio.Future[None]) -> None:
            mine = self._in_flight.pop(done, None)
            if mine is None:
                return
            self._late_in_flight -= late
            if done.cancelled() or done.exception() is not None:
                module.outbox.give_back(mine)
                return
            self.round_trip_ms = max(0, (module.world.now_us() - sent_us) // 1000)
            module.tally.acknowledged += len(mine)
            if module.tally.ledger is not None:
                module.tally.ledger.update(one.time_ms for one in mine if one.time_ms is not None)
            self._wake.set()

        future.add_done_callback(settle)

    async def _publish(self, kind: Kind, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        connection = self._connection
        if connection is None:
            raise ConnectionEnded("there is no connection")
        await self.carry(len(payload))
        future = connection.publish(self._topics[kind], payload, qos=qos, retain=retain)
        if future is not None:
            async with asyncio.timeout(self._patience(ANSWER_S)):
                await future

    def _on_message(self, topic: str, payload: bytes) -> None:
        if topic == self._topics[Kind.CMD] and self._module.powered and self._has_radio():
            commands.on_command(self._module, payload)

    def _birth(self) -> State:
        module = self._module
        now_us = module.world.now_us()
        point = module.radio.joined
        return State(
            online=True,
            time_ms=module.clock.now_ms(),
            boot_id=module.boot_id,
            period_ms=module.flash.period_ms,
            firmware=module.flash.firmware.version,
            hardware=module.spec.hardware,
            module_kind="wifi-tic",
            meter_kind="linky-standard",
            meter_serial=module.meter.serial,
            ssid=point.ssid if point else None,
            bssid=point.bssid if point else None,
            channel=point.channel if point else None,
            rssi_dbm=module.radio.rssi_dbm(now_us),
            reset_reason=module.reset_reason,
            uptime_s=module.clock.uptime_ms() // 1000,
            clock=module.clock.state,
        )

    def _has_radio(self) -> bool:
        module = self._module
        now_us = module.world.now_us()
        before = module.radio.joined
        found = module.radio.look(now_us) if module.has_wifi() else None
        if found is None:
            if self._down_since_us is None:
                self._down_since_us = now_us
            return False
        if self._down_since_us is not None:
            self.wifi_down_ms += (now_us - self._down_since_us) // 1000
            self._down_since_us = None
        if before is not None and before is not found:
            module.log("info", "wifi", "roamed to another access point")
            self._birth_due = True
        return True

    def _lose(self) -> None:
        """The connection is over or the radio is gone: what was not acknowledged waits again."""
        connection, self._connection = self._connection, None
        self.online = False
        if connection is not None and not connection.ended.done():
            connection.freeze()
            self._ghosts.append(connection)
        outbox = self._module.outbox
        for readings in reversed(list(self._in_flight.values())):
            outbox.give_back(readings)
        self._in_flight.clear()
        self._late_in_flight = 0
        outbox.give_back(self._held)
        self._held = []
        outbox.cut()

    def _patience(self, seconds: float) -> float:
        return max(_LEAST_REAL_S, self._module.world.real_s(seconds))


def _disordered(readings: list[Reading], chance: random.Random) -> list[Reading]:
    """The same in another order, which for two or more is never the old one."""
    mixed = list(readings)
    chance.shuffle(mixed)
    return mixed if mixed != readings else [*readings[1:], *readings[:1]]
