"""The devices of others that this hub knows, in memory: what was recognised of each, and what is not written yet."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from app.domain.reading import LARGEST_COUNTER
from app.protocol.foreign import Facts
from app.protocol.messages import State
from app.stores.registry.foreign_devices import DeviceRecord, SeenDevice
from app.stores.registry.records import DeviceStanding, DeviceState

# As long as the columns of the registry.
LONGEST_ID = 200
_LONGEST = {"name": 100, "maker": 64, "model": 64, "firmware": 64}
_LONGEST_TEXT = 200
# Of all dialects together; adopted and ignored ones are always known.
MOST_DEVICES = 20_000
# What changes with nearly every message is written now and then only.
_PASSING = frozenset({"rssi_dbm", "link_quality", "wifi_connects", "wifi_down_ms", "uptime_s"})
WRITE_PASSING_EACH_US = 60_000_000
# Two gaps tell what is usual; nine readings tell it well.
_LEAST_GAPS = 2
_MOST_ARRIVALS = 9
_SAME_PERIOD = 0.2
# In the JSON of the facts, beside what was recognised: what this hub has found out.
_USUAL = "usual_us"


class Device:
    """What is known of one. Facts that were heard are kept until others are; times are UTC microseconds."""

    __slots__ = (
        "_arrivals",
        "device",
        "dialect",
        "facts",
        "first_seen_us",
        "is_changed",
        "last_seen_us",
        "messages",
        "online",
        "power_kind",
        "rssi",
        "serial",
        "state",
        "told",
        "usual_us",
        "written_us",
    )

    def __init__(self, dialect: str, device: str, now_us: int) -> None:
        self.dialect = dialect
        self.device = device
        self.state = DeviceState.DISCOVERED
        self.serial: str | None = None
        self.facts: dict[str, Any] = {}
        self.power_kind: str | None = None
        # Since it was written last.
        self.messages = 0
        self.first_seen_us = now_us
        self.last_seen_us = now_us
        self.is_changed = True
        self.written_us = 0
        self.online: bool | None = None
        # A signal in dBm and when it was told, until it has gone with a reading.
        self.rssi: tuple[int, int] | None = None
        # What the registry and the events were told of it.
        self.told: State | None = None
        self.usual_us = 0
        self._arrivals: collections.deque[int] | None = None

    def learn(self, facts: Facts) -> None:
        """Take over what was recognised; texts are cut where the registry's columns end."""
        said = {name: _bounded(name, value) for name, value in msgspec.structs.asdict(facts).items()}
        for name, value in said.items():
            if value is not None and self.facts.get(name) != value:
                self.facts[name] = value
                self.is_changed |= name not in _PASSING

    def arrived(self, arrival_us: int) -> bool:
        """A reading came; whether another time between two is usual now."""
        if self._arrivals is None:
            self._arrivals = collections.deque(maxlen=_MOST_ARRIVALS)
        if self._arrivals and arrival_us - self._arrivals[-1] < 1000:
            return False  # Several at once are one message's.
        self._arrivals.append(arrival_us)
        if len(self._arrivals) <= _LEAST_GAPS:
            return False
        times = list(self._arrivals)
        gaps = sorted(after - before for before, after in itertools.pairwise(times))
        usual_us = gaps[(len(gaps) - 1) // 2]
        if abs(usual_us - self.usual_us) <= _SAME_PERIOD * self.usual_us:
            return False
        self.usual_us = usual_us
        self.is_changed = True
        return True

    def forget_facts(self) -> None:
        """Know no more of it than its id."""
        self.facts = {}
        self.power_kind = None
        self.rssi = None
        self.told = None

    def seen(self) -> SeenDevice:
        """What is to be written of it."""
        facts = {**self.facts, _USUAL: self.usual_us} if self.usual_us else self.facts
        return SeenDevice(
            self.dialect,
            self.device,
            msgspec.json.encode(facts).decode() if facts else None,
            self.facts.get("name"),
            self.facts.get("maker"),
            self.facts.get("model"),
            self.facts.get("firmware"),
            self.power_kind,
            self.messages,
            self.first_seen_us,
            self.last_seen_us,
        )


class KnownDevices:
    """On the loop. At most `most` that were only discovered; further ones are not remembered."""

    def __init__(self, most: int = MOST_DEVICES) -> None:
        self._most = most
        self._devices: dict[tuple[str, str], Device] = {}
        self._by_serial: dict[str, Device] = {}
        self._states: collections.Counter[DeviceState] = collections.Counter()
        # What has something to write, in the order in which it got it.
        self._unwritten: dict[tuple[str, str], None] = {}

    def __len__(self) -> int:
        return len(self._devices)

    def count(self, state: DeviceState) -> int:
        """How many are in a state."""
        return self._states[state]

    @property
    def unwritten(self) -> int:
        """How many have something that is not in the registry yet."""
        return len(self._unwritten)

    def load(self, records: Iterable[DeviceRecord]) -> None:
        """Take over what the registry has; what is known in memory of a device is newer."""
        for record in records:
            device = self._devices.get((record.dialect, record.device))
            if device is None:
                device = self._add(record.dialect, record.device, record.first_seen_us)
                device.facts = {name: value for name, value in record.facts.items() if name != _USUAL}
                device.usual_us = _whole(record.facts, _USUAL)
                device.power_kind = record.power_kind
                device.last_seen_us = record.last_seen_us
                device.is_changed = False
            self.put(record.standing)

    def put(self, standing: DeviceStanding) -> Device | None:
        """What people decided of a device; the device, if it is known."""
        device = self._devices.get((standing.dialect, standing.device))
        if device is None or (device.state, device.serial) == (standing.state, standing.serial):
            return device
        self._states[device.state] -= 1
        self._states[standing.state] += 1
        if device.serial is not None:
            self._by_serial.pop(device.serial, None)
        device.state, device.serial, device.told = standing.state, standing.serial, None
        if standing.serial is not None:
            self._by_serial[standing.serial] = device
        return device

    def of_serial(self, serial: str) -> Device | None:
        """The device that is a module."""
        return self._by_serial.get(serial)

    def heard(self, dialect: str, device: str, arrival_us: int) -> Device | None:
        """The device, a new one if need be; None when no more are remembered."""
        found = self._devices.get((dialect, device))
        if found is None:
            if self._states[DeviceState.DISCOVERED] >= self._most:
                return None
            found = self._add(dialect, device, arrival_us)
        return found

    def touched(self, device: Device) -> None:
        """Something came of it: it may have something to write."""
        if device.is_changed or device.last_seen_us - device.written_us >= WRITE_PASSING_EACH_US:
            self._unwritten[device.dialect, device.device] = None

    def take_unwritten(self, most: int) -> list[SeenDevice]:
        """What is to be written next."""
        taken = []
        for key in list(self._unwritten)[:most]:
            del self._unwritten[key]
            device = self._devices.get(key)
            if device is not None:
                taken.append(device.seen())
                device.messages = 0
                device.is_changed = False
                device.written_us = device.last_seen_us
        return taken

    def put_back(self, seen: Iterable[SeenDevice]) -> None:
        """What could not be written."""
        for one in seen:
            device = self._devices.get((one.dialect, one.device))
            if device is not None:
                device.messages += one.messages
                device.is_changed = True
                self._unwritten[one.dialect, one.device] = None

    def forget(self, dialect: str, device: str) -> None:
        """A device that was only discovered is gone from the registry."""
        found = self._devices.get((dialect, device))
        if found is not None and found.state is DeviceState.DISCOVERED:
            del self._devices[dialect, device]
            self._unwritten.pop((dialect, device), None)
            self._states[found.state] -= 1

    def _add(self, dialect: str, device: str, now_us: int) -> Device:
        made = self._devices[dialect, device] = Device(dialect, device, now_us)
        self._states[made.state] += 1
        return made


def is_id(text: str) -> bool:
    """Whether a device can be remembered under this."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return 0 < len(text) <= LONGEST_ID and "\0" not in text


def _bounded(name: str, value: Any) -> Any:
    """What is kept of a fact; None: nothing."""
    if isinstance(value, int):
        return value if abs(value) <= LARGEST_COUNTER else None
    if not isinstance(value, str):
        return None
    # PostgreSQL takes no NUL, and nobody can read one.
    return value.encode(errors="replace").decode().replace("\0", "")[: _LONGEST.get(name, _LONGEST_TEXT)]


def _whole(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) and 0 < value < 2**62 else 0
