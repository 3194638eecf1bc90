"""Radio: what a module hears of an access point, and what that does to its connection."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

from device_sim.modules.chance import seeded

# Loss of one transmission at these signals; between them it is interpolated. A frame is tried again up to seven times
# by Wi-Fi, so that 50 % here is slow rather than lost.
_LOSS_BY_DBM = ((-127, 1.0), (-95, 0.97), (-90, 0.75), (-85, 0.4), (-80, 0.15), (-75, 0.05), (-67, 0.01), (0, 0.002))
# Below this the module loses the beacons and with them the access point; it joins again above the other.
LEAVE_DBM = -92
JOIN_DBM = -89
# Another access point of the same network is taken when it is so much better.
ROAM_BY_DB = 8
TRIES = 8
# One transmission of a small frame, with its back-off.
TRY_S = 0.004
# What Wi-Fi gave up TCP sends again after so long, doubling.
TCP_AGAIN_S = 0.2
_MOST_TCP_ROUNDS = 6
_FADING_DB = 3.0
_FADING_US = 180_000_000
_FLUTTER_DB = 1.5
_FLUTTER_US = 5_000_000
_BURST_US = 30_000_000
_BURST_SHARE = 0.01
_BURST_LOSS = 0.5
_WALL_DB = 6.0
_AT_ONE_METRE_DBM = -38.0
_EXPONENT = 2.4


def loss_at(rssi_dbm: float) -> float:
    """The share of transmissions that fail at a signal."""
    for (low, more), (high, less) in itertools.pairwise(_LOSS_BY_DBM):
        if rssi_dbm <= high:
            return more + (less - more) * max(0.0, rssi_dbm - low) / (high - low)
    return _LOSS_BY_DBM[-1][1]


def signal_of(distance_m: float, walls: int, wall_db: float = _WALL_DB) -> float:
    """Log-distance path loss, and so much for each wall, dBm."""
    return _AT_ONE_METRE_DBM - 10 * _EXPONENT * math.log10(max(1.0, distance_m)) - walls * wall_db


@dataclasses.dataclass(slots=True)
class AccessPoint:
    """An access point; whatever is changed holds for everybody who hears it."""

    name: str
    ssid: str = "home"
    bssid: str = "02:00:5e:10:00:01"
    channel: int = 6
    up: bool = True
    # A bad antenna, a microwave oven: taken off everybody's signal.
    attenuation_db: float = 0.0
    # A crowded channel: so much of the transmissions are lost to others, whatever the signal.
    busy: float = 0.0
    # On this channel it does not get through (a neighbour's, a radar's); None: none is bad.
    bad_channel: int | None = None
    bad_busy: float = 0.85

    @property
    def loss(self) -> float:
        """Lost to others now."""
        return max(self.busy, self.bad_busy if self.channel == self.bad_channel else 0.0)


@dataclasses.dataclass(frozen=True, slots=True)
class Spot:
    """Where a module hangs as seen from one access point."""

    distance_m: float = 6.0
    walls: int = 1


class Radio:
    """A module's radio: which access point it has joined, at what signal, and how long a message takes."""

    def __init__(self, seed: object, heard: Sequence[tuple[AccessPoint, Spot]]) -> None:
        if not heard:
            raise ValueError("a radio hears one access point at least")
        self._heard = list(heard)
        self._seed = seed
        self._chance = seeded("radio", seed)
        self.joined: AccessPoint | None = None
        # Of this module alone: off, or weaker.
        self.enabled = True
        self.attenuation_db = 0.0
        self.connects = 0

    def look(self, at_us: int) -> AccessPoint | None:
        """Leave, join or roam as the signals say; the access point now."""
        signals = [(self._signal(point, spot, at_us), point) for point, spot in self._heard if point.up]
        best = max(signals, key=lambda one: one[0], default=(-127.0, None))
        if not self.enabled or best[1] is None:
            self.joined = None
            return None
        here = next((signal for signal, point in signals if point is self.joined), None)
        if here is None or here < LEAVE_DBM:
            self.joined = None
        if self.joined is None:
            if best[0] >= JOIN_DBM:
                self._join(best[1])
        elif best[1] is not self.joined and here is not None and best[0] >= here + ROAM_BY_DB:
            self._join(best[1])
        return self.joined

    def rssi_dbm(self, at_us: int) -> int | None:
        """Signal of the joined access point; None without one."""
        for point, spot in self._heard:
            if point is self.joined:
                return max(-127, min(0, round(self._signal(point, spot, at_us))))
        return None

    def loss(self, at_us: int) -> float:
        """The share of transmissions that fail now; 1 without an access point."""
        rssi = self.rssi_dbm(at_us)
        if rssi is None or self.joined is None:
            return 1.0
        burst = seeded(self._seed, "burst", at_us // _BURST_US).random() < _BURST_SHARE
        return 1 - (1 - loss_at(rssi)) * (1 - self.joined.loss) * (1 - (_BURST_LOSS if burst else 0.0))

    def delay_s(self, at_us: int) -> float | None:
        """How long one message takes with all its repetitions; None when TCP would have given up by then."""
        loss = self.loss(at_us)
        delay = 0.0
        for turn in range(_MOST_TCP_ROUNDS):
            for _one in range(TRIES):
                delay += TRY_S
                if self._chance.random() >= loss:
                    return delay
            delay += TCP_AGAIN_S * 2**turn
        return None

    def _join(self, point: AccessPoint) -> None:
        self.joined = point
        self.connects += 1

    def _signal(self, point: AccessPoint, spot: Spot, at_us: int) -> float:
        slow = _smooth(self._seed, point.name, at_us, _FADING_US) * _FADING_DB
        quick = _smooth(self._seed, f"{point.name}/quick", at_us, _FLUTTER_US) * _FLUTTER_DB
        lost = point.attenuation_db + self.attenuation_db
        return signal_of(spot.distance_m, spot.walls) + slow + quick - lost


def _smooth(seed: object, name: str, at_us: int, step_us: int) -> float:
    """Noise from -1 to 1 without jumps: seeded at each step, a cosine between."""
    step, rest = divmod(at_us, step_us)
    before = seeded(seed, name, step).uniform(-1, 1)
    after = seeded(seed, name, step + 1).uniform(-1, 1)
    share = (1 - math.cos(math.pi * rest / step_us)) / 2
    return before + (after - before) * share
