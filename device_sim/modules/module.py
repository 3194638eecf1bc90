"""The firmware of a simulated module: it boots, measures, keeps its settings, until somebody pulls the plug."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from app.domain.reading import Reading, StateBit
from app.protocol.messages import Diag, Log
from device_sim.modules.chance import seeded
from device_sim.modules.clock import ModuleClock, WorldClock
from device_sim.modules.flash import Flash, Slot
from device_sim.modules.image import NO_BOOT, NO_METER, NO_WIFI
from device_sim.modules.link import Link
from device_sim.modules.meter import SUPPLY_V, Meter
from device_sim.modules.mqtt import Address
from device_sim.modules.outbox import Outbox
from device_sim.modules.spec import ModuleSpec, Tally, WireFaults
from device_sim.modules.updating import Updating
from device_sim.radio import Radio

BOOT_S = 2.0
DIAG_EACH_S = 60.0
# Of the meter without a good frame, see METER_LINK_BAD.
_LINK_BAD_AFTER_MS = 10_000
_TEN_MINUTES_MS = 600_000
_LOG_LINES = 500
_LEVELS = ("debug", "info", "warning", "error")
HEAP_BYTES = 180_000


class Module:
    """One module. `run` is its life; everything else may be called at any time on the same loop."""

    def __init__(
        self,
        spec: ModuleSpec,
        world: WorldClock,
        radio: Radio,
        meter: Meter,
        address: Callable[[], Address],
    ) -> None:
        self.spec = spec
        self.world = world
        self.radio = radio
        self.meter = meter
        self.address = address
        self.chance = seeded("module", spec.seed, spec.serial)
        self.wire = WireFaults()
        self.tally = Tally()
        self.clock = ModuleClock(world, drift_ppm=spec.drift_ppm, can_be_set=spec.clock_can_be_set)
        self.flash = Flash(spec.period_ms, spec.qos, spec.secret, spec.public_key, [Slot(spec.firmware), None])
        self.outbox = Outbox(spec.capacity)
        self.link = Link(self)
        self.updating = Updating(self)
        self.boot_id = 0
        self.seq = 0
        self.reset_reason = "power_on"
        self.lines: collections.deque[Log] = collections.deque(maxlen=_LOG_LINES)
        self._powered = asyncio.Event()
        self._powered.set()
        self._restart = asyncio.Event()
        self._period_changed = asyncio.Event()
        self._register: int | None = None
        self._ten_minutes = -1
        # Uptime at readings that were taken before the clock was set, by `seq`; as many as are kept.
        self._untimed: dict[int, int] = {}

    @property
    def serial(self) -> str:
        """Its name."""
        return self.spec.serial

    @property
    def powered(self) -> bool:
        """Whether it has power."""
        return self._powered.is_set()

    @property
    def online(self) -> bool:
        """Whether it has a session as it believes."""
        return self.link.online

    async def run(self) -> None:
        """Live until cancelled; a fault of this code is raised, not lived with."""
        try:
            while True:
                await self._powered.wait()
                self._restart.clear()
                await self.world.sleep(BOOT_S)
                if self._boots():
                    await self._live()
                self._shut_down()
        finally:
            self.link.close()

    def cut_power(self) -> None:
        """Dark at once: no word to anybody, the memory is gone."""
        self._powered.clear()
        self.meter.powered = False
        self.reset_reason = "power_on"
        self._restart.set()

    def restore_power(self) -> None:
        """The mains are back."""
        self.meter.powered = True
        self._powered.set()

    def reboot(self, reason: str = "software") -> None:
        """Start anew, as soon as possible."""
        self.reset_reason = reason
        self._restart.set()

    def pair_anew(self, secret: str) -> None:
        """Take another credential, as the field tool gives it, and start with it."""
        self.flash.secret = secret
        self.log("info", "pairing", "paired anew")
        self.reboot("paired")

    def exchange_meter(self) -> None:
        """Another meter on the line: its frames tell, so a new birth follows."""
        self.meter.exchange(self.world.now_us())
        self.log("warning", "tic", "another meter answers")
        self.link.announce()

    def set_period(self, period_ms: int) -> None:
        """Kept over reboots; tells the hub by a new birth."""
        self.flash.period_ms = period_ms
        self._period_changed.set()
        self.link.announce()

    def synchronise(self) -> bool:
        """Ask the time server; what was measured before the first answer gets its time now."""
        if not self.clock.synchronise():
            return False
        now_ms, uptime_ms, untimed = self.clock.now_ms(), self.clock.uptime_ms(), self._untimed
        if untimed and now_ms is not None:
            self.outbox.stamp(lambda seq: now_ms - uptime_ms + untimed[seq] if seq in untimed else None)
            self._untimed = {}
        return True

    def log(self, level: str, tag: str, text: str) -> None:
        """Write a line; warnings and errors are published at once, the others when asked for."""
        line = Log(
            time_ms=self.clock.now_ms(),
            boot_id=self.boot_id,
            uptime_ms=self.clock.uptime_ms(),
            level=level,
            tag=tag,
            text=text[:1000],
        )
        self.lines.append(line)
        if level in {"warning", "error"}:
            self.link.say_log([line])

    def newest_lines(self, most: int, level: str) -> list[Log]:
        """The newest lines of a level and those above, oldest first."""
        wanted = _LEVELS[_LEVELS.index(level) :] if level in _LEVELS else _LEVELS
        return [line for line in self.lines if line.level in wanted][-most:]

    def diag(self) -> Diag:
        """Its health now."""
        now_us = self.world.now_us()
        meter, radio, link = self.meter, self.radio, self.link
        used = min(HEAP_BYTES // 2, len(self.outbox) * 60)
        return Diag(
            time_ms=self.clock.now_ms(),
            boot_id=self.boot_id,
            uptime_s=self.clock.uptime_ms() // 1000,
            heap_free_bytes=HEAP_BYTES - used,
            heap_least_bytes=HEAP_BYTES - used - 20_000,
            heap_largest_block_bytes=65_536,
            chip_temperature_c=round(self.chance.gauss(42, 1), 1),
            supply_mv=round(self.chance.gauss(3295, 4)),
            rssi_dbm=radio.rssi_dbm(now_us),
            bssid=radio.joined.bssid if radio.joined else None,
            channel=radio.joined.channel if radio.joined else None,
            wifi_connects=radio.connects,
            wifi_down_ms=link.wifi_down_ms,
            mqtt_connects=self.tally.connects,
            round_trip_ms=link.round_trip_ms,
            queued_readings=len(self.outbox),
            dropped_readings=self.outbox.dropped,
            meter_link=self.meter_link(),
            meter_frames_good=meter.frames_good,
            meter_frames_bad=meter.frames_bad,
            meter_bytes_per_s=0 if self.meter_link() == "off" else 902,
            meter_frame_age_ms=meter.frame_age_ms(now_us),
            clock_offset_ms=self.clock.last_offset_ms,
        )

    def checks(self) -> dict[str, str]:
        """The named checks of `diagnose`: what each found, in one word or with its number."""
        now_us = self.world.now_us()
        rssi = self.radio.rssi_dbm(now_us)
        return {
            "meter_link": self.meter_link(),
            "radio": "off" if rssi is None else "weak" if rssi < -80 else "good",
            "broker": "good" if self.online else "off",
            "clock": self.clock.state,
            "queue": "good" if not self.outbox.dropped else "overflowed",
        }

    def meter_link(self) -> str:
        """`good`, `bad` or `off`."""
        if not self.meter.powered or self.meter_is_deaf():
            return "off"
        return "bad" if self.meter.frame_age_ms(self.world.now_us()) > _LINK_BAD_AFTER_MS else "good"

    def meter_is_deaf(self) -> bool:
        """Whether the firmware that runs can not read the meter."""
        return NO_METER in self.flash.firmware.flaws

    def has_wifi(self) -> bool:
        """Whether the firmware that runs can use its radio."""
        return NO_WIFI not in self.flash.firmware.flaws

    def _boots(self) -> bool:
        """Start from the active slot; False when that does not come up (the watchdog bites then)."""
        self.updating.on_boot()
        if NO_BOOT in self.flash.firmware.flaws:
            self.reset_reason = "watchdog"
            return False
        self.boot_id = self.chance.randrange(2**32)
        self.seq = 0
        self.tally.boots += 1
        self.clock.boot(keeps_time=self.reset_reason not in {"power_on", "brownout"})
        self._register = None
        self._untimed.clear()
        self.log("info", "boot", f"start after {self.reset_reason}, firmware {self.flash.firmware.version}")
        return True

    async def _live(self) -> None:
        works: list[Coroutine[Any, Any, None]] = [
            self._measure_on(),
            self._diagnose_on(),
            self.link.run(),
            self.updating.run(),
        ]
        tasks = [asyncio.create_task(work) for work in works]
        restart = asyncio.create_task(self._restart.wait())
        try:
            await asyncio.wait([*tasks, restart], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, restart):
                task.cancel()
            ended = await asyncio.gather(*tasks, restart, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    def _shut_down(self) -> None:
        self.link.stop(orderly=self.powered and self.reset_reason not in {"watchdog", "brownout"})
        # Without a file system readings live in RAM.
        self.tally.forgotten += self.outbox.clear()

    async def _measure_on(self) -> None:
        due_us = self.world.now_us()
        while True:
            self._measure()
            due_us += self.flash.period_ms * 1000
            now_us = self.world.now_us()
            if due_us < now_us - self.flash.period_ms * 2000:
                # A busy machine: readings that were not taken are not made up.
                due_us = now_us
            self._period_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.world.real_s(max(0, due_us - now_us) / 1e6)):
                    await self._period_changed.wait()
                    due_us = self.world.now_us()

    async def _diagnose_on(self) -> None:
        await self.world.sleep(self.chance.uniform(0, DIAG_EACH_S))
        while True:
            self.link.say_diag()
            await self.world.sleep(DIAG_EACH_S)

    def _measure(self) -> None:
        reading = self._reading()
        self.tally.measured += 1
        self.outbox.add(reading, online=self.online)
        self.link.wake()

    def _reading(self) -> Reading:
        now_us = self.world.now_us()
        frame = None if self.meter_is_deaf() else self.meter.read(now_us)
        gap_ms = self.meter.frame_gap_ms(now_us)
        old = frame is None or now_us - frame.at_us > _LINK_BAD_AFTER_MS * 1000
        state = StateBit(0)
        if old:
            state |= StateBit.METER_LINK_BAD
        time_ms = self.clock.now_ms()
        seq = self.seq
        self.seq += 1
        if time_ms is None:
            state |= StateBit.CLOCK_NEVER_SET
            if len(self._untimed) < self.spec.capacity:
                self._untimed[seq] = self.clock.uptime_ms()
        rssi = self.radio.rssi_dbm(now_us)
        if frame is None or now_us - frame.at_us > 2 * self.flash.period_ms * 1000:
            # Nothing of the meter: what an old frame said is not said again as if it were new.
            return Reading(
                time_ms=time_ms, boot_id=self.boot_id, seq=seq, rssi_dbm=rssi, frame_gap_ms=gap_ms, state=int(state)
            )
        voltage = round(SUPPLY_V + self.chance.gauss(0, 1.2), 1)
        ten_minutes = (time_ms or 0) // _TEN_MINUTES_MS
        tells = frame.register != self._register or ten_minutes != self._ten_minutes
        self._register, self._ten_minutes = frame.register, ten_minutes
        return Reading(
            time_ms=time_ms,
            boot_id=self.boot_id,
            seq=seq,
            apparent_va=frame.power_va,
            drawn_wh=frame.drawn_wh,
            register=frame.register,
            registers_wh=frame.registers_wh if tells else None,
            voltage_v=voltage,
            current_a=round(frame.power_va / voltage, 1),
            rssi_dbm=rssi,
            frame_gap_ms=gap_ms,
            state=int(state),
        )
