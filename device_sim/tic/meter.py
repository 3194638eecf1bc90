"""The state of a simulated Linky, and what it measures from moment to moment."""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo

import numpy as np

from device_sim.tic.contracts import CONTRACTS, Contact, Contract
from device_sim.tic.power import PowerSource

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
_POWER_FACTOR = 0.97
_LARGEST_VA = 99_990
_HALF_HOUR_S = 1800


@dataclasses.dataclass(frozen=True, slots=True)
class MeterPlan:
    """What a meter is from the factory and by contract. `kva` is the subscribed power."""

    contract: Contract = CONTRACTS["base"]
    phases: int = 1
    producer: bool = False
    kva: int = 6
    seed: int = 1

    @property
    def serial(self) -> str:
        """Twelve digits: maker, year, type (61 single phase, 76 three phases), number."""
        return f"0419{76 if self.phases == 3 else 61}{self.seed % 1_000_000:06}"

    @property
    def delivery_point(self) -> str:
        """An invented PRM: none begins with 00."""
        return f"00{self.seed % 10**12:012}"

    @property
    def subscribed_a(self) -> int:
        """The current of ISOUSC."""
        return self.kva * 1000 // 200 // self.phases


@dataclasses.dataclass(frozen=True, slots=True)
class Peak:
    """The largest power of a day and when it was."""

    at: dt.datetime
    va: int


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """What the meter knows at an instant. Registers by their number - 1; `local` is the meter's own time."""

    plan: MeterPlan
    local: dt.datetime
    register: int
    distributor_register: int
    contact_closed: bool
    registers_wh: tuple[int, ...]
    distributor_wh: tuple[int, ...]
    injected_wh: int
    reactive_varh: tuple[int, ...]
    volts: tuple[int, ...]
    amperes: tuple[int, ...]
    phases_va: tuple[int, ...]
    drawn_va: int
    injected_va: int
    peaks: tuple[Peak, ...]
    peaks_before: tuple[Peak, ...]
    injected_peak: Peak
    injected_peak_before: Peak
    load_w: tuple[int, int]
    injected_load_w: tuple[int, int]
    mean_volts: tuple[int, ...]
    clock_degraded: bool = False

    @property
    def drawn_wh(self) -> int:
        """The total drawn, which is the sum of the registers of either kind."""
        return sum(self.registers_wh)

    @property
    def over_current(self) -> tuple[bool, ...]:
        """Which phases exceed the subscribed current."""
        return tuple(current > self.plan.subscribed_a for current in self.amperes)


class Meter:
    """Measures a power source. Energy is what was drawn between two looks at it."""

    def __init__(self, plan: MeterPlan, source: PowerSource, start_s: float) -> None:
        self._plan = plan
        self._source = source
        self._at_s = start_s
        self._random = np.random.default_rng([plan.seed, 2])
        self._half_hour = 0
        self._half_hour_w: list[float] = []
        self._loads_w = (0, 0)
        self._drawn_rest_wh = self._injected_rest_wh = self._reactive_rest_varh = 0.0
        self._registers_wh = [0] * 10
        # A contract of before leaves its registers as they were; spending must not take them for a part of today's.
        used = len(plan.contract.tariffs)
        for number in range(used + 2 if used <= 3 else used):
            self._registers_wh[number] = int(self._random.integers(100_000, 9_000_000))
        self._distributor_wh = [0] * 4
        rest = sum(self._registers_wh)
        for number, share in enumerate((0.3, 0.4, 0.1)):
            self._distributor_wh[number] = int(rest * share)
        self._distributor_wh[3] = rest - sum(self._distributor_wh)
        self._injected_wh = int(self._random.integers(100_000, 4_000_000)) if plan.producer else 0
        self._reactive_varh = [int(self._random.integers(1_000, 900_000)) for _ in range(4)]
        start = dt.datetime.fromtimestamp(start_s, PARIS)
        yesterday = (start - dt.timedelta(days=1)).replace(hour=19, minute=30, second=12, microsecond=0)
        top_va = plan.kva * 700
        # The whole first, then each phase where there are three.
        count = 1 if plan.phases == 1 else 4
        self._peaks_before = [Peak(yesterday, top_va if number == 0 else top_va // 3) for number in range(count)]
        self._peaks = [Peak(start.replace(hour=0, minute=0, second=0, microsecond=0), 0)] * count
        self._injected_peak_before = Peak(yesterday.replace(hour=13), 1_800)
        self._injected_peak = Peak(self._peaks[0].at, 0)

    def index_back(self, wh: int) -> None:
        """Let the running register fall, and the total with it: what a misread or an exchanged meter looks like."""
        register = self._register(dt.datetime.fromtimestamp(self._at_s, PARIS)) - 1
        taken = min(wh, self._registers_wh[register])
        self._registers_wh[register] -= taken
        largest = max(range(4), key=self._distributor_wh.__getitem__)
        self._distributor_wh[largest] -= taken

    def look(self, at_s: float) -> Snapshot:
        """Go on to a UTC time in seconds and say what is so then."""
        plan = self._plan
        local = dt.datetime.fromtimestamp(at_s, PARIS)
        register, distributor = self._register(local), _distributor_register(local)
        phases_w = list(self._source.phases_w(at_s))[: plan.phases]
        if not plan.producer:
            phases_w = [max(0.0, power_w) for power_w in phases_w]
        net_w = sum(phases_w)
        self._count(net_w, max(0.0, at_s - self._at_s), register, distributor)
        self._at_s = at_s
        volts = tuple(int(v) for v in np.clip(self._random.normal(232, 1.5, plan.phases).round(), 207, 253))
        # Five digits is what a group has, and three for a current.
        phases_va = tuple(min(round(abs(power_w) / _POWER_FACTOR), _LARGEST_VA) for power_w in phases_w)
        va = min(round(abs(net_w) / _POWER_FACTOR), _LARGEST_VA)
        drawn_va, injected_va = (va, 0) if net_w >= 0 else (0, va)
        self._keep_peaks(local, (drawn_va, *phases_va) if plan.phases == 3 else (drawn_va,), injected_va)
        loads = self._keep_loads(at_s, net_w)
        return Snapshot(
            plan=plan,
            local=local,
            register=register,
            distributor_register=distributor,
            contact_closed=self._is_closed(local),
            registers_wh=tuple(self._registers_wh),
            distributor_wh=tuple(self._distributor_wh),
            injected_wh=self._injected_wh,
            reactive_varh=tuple(self._reactive_varh),
            volts=volts,
            amperes=tuple(round(part_va / part_v) for part_va, part_v in zip(phases_va, volts, strict=True)),
            phases_va=phases_va,
            drawn_va=drawn_va,
            injected_va=injected_va,
            peaks=tuple(self._peaks),
            peaks_before=tuple(self._peaks_before),
            injected_peak=self._injected_peak,
            injected_peak_before=self._injected_peak_before,
            load_w=(max(0, loads[0]), max(0, loads[1])),
            injected_load_w=(max(0, -loads[0]), max(0, -loads[1])),
            mean_volts=(232,) * plan.phases,
        )

    def _register(self, local: dt.datetime) -> int:
        return self._plan.contract.register_at(local, self._plan.seed)

    def _is_closed(self, local: dt.datetime) -> bool:
        return self._plan.contract.step_at(local, self._plan.seed).contact is Contact.CLOSED

    def _keep_loads(self, at_s: float, net_w: float) -> tuple[int, int]:
        """The mean power of the last two whole half-hours; before there were any, the power of now."""
        number = int(at_s // _HALF_HOUR_S)
        if number != self._half_hour:
            mean_w = sum(self._half_hour_w) / len(self._half_hour_w) if self._half_hour_w else net_w
            self._loads_w = (round(mean_w), self._loads_w[0] if self._half_hour else round(mean_w))
            self._half_hour, self._half_hour_w = number, []
        self._half_hour_w.append(net_w)
        return self._loads_w

    def _count(self, net_w: float, seconds: float, register: int, distributor: int) -> None:
        energy_wh = net_w * seconds / 3600
        whole, self._drawn_rest_wh = divmod(self._drawn_rest_wh + max(0.0, energy_wh), 1)
        # An index has nine digits and begins anew after them.
        self._registers_wh[register - 1] = (self._registers_wh[register - 1] + int(whole)) % 1_000_000_000
        self._distributor_wh[distributor - 1] = (self._distributor_wh[distributor - 1] + int(whole)) % 1_000_000_000
        whole, self._injected_rest_wh = divmod(self._injected_rest_wh + max(0.0, -energy_wh), 1)
        self._injected_wh = (self._injected_wh + int(whole)) % 1_000_000_000
        whole, self._reactive_rest_varh = divmod(self._reactive_rest_varh + abs(energy_wh) * 0.2, 1)
        self._reactive_varh[0] = (self._reactive_varh[0] + int(whole)) % 1_000_000_000

    def _keep_peaks(self, local: dt.datetime, powers_va: tuple[int, ...], injected_va: int) -> None:
        if local.date() != self._peaks[0].at.date():
            self._peaks_before, self._injected_peak_before = list(self._peaks), self._injected_peak
            self._peaks = [Peak(local, 0)] * len(powers_va)
            self._injected_peak = Peak(local, 0)
        self._peaks = [
            Peak(local, power_va) if power_va > peak.va else peak
            for power_va, peak in zip(powers_va, self._peaks, strict=True)
        ]
        if injected_va > self._injected_peak.va:
            self._injected_peak = Peak(local, injected_va)


def _distributor_register(local: dt.datetime) -> int:
    """The network's four classes: off-peak and peak of winter, off-peak and peak of summer."""
    is_off_peak = not 7 <= local.hour < 23
    is_winter = local.month in {11, 12, 1, 2, 3}
    return (1 if is_winter else 3) + (0 if is_off_peak else 1)
