"""Every fault by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from device_sim.faults import firmware, households, mains, messages, meters, wifi
from device_sim.faults.fault import Fault, FaultMistake

CATALOGUE: tuple[Fault, ...] = (
    mains.POWER_CUT,
    wifi.WIFI_DROP,
    wifi.WEAK_SIGNAL,
    wifi.BAD_CHANNEL,
    wifi.FLAPPING,
    meters.METER_FROZEN,
    meters.STUCK_VALUE,
    meters.INDEX_JUMP_BACK,
    meters.METER_EXCHANGED,
    messages.CLOCK_SKEW,
    messages.DUPLICATES,
    messages.OUT_OF_ORDER,
    messages.GARBAGE,
    messages.SLOW_UPLINK,
    messages.BROKER_UNREACHABLE,
    households.MOVED_OUT,
    households.MOVED_IN,
    firmware.FIRMWARE_NO_BOOT,
    firmware.FIRMWARE_NO_WIFI,
)
FAULTS: Mapping[str, Fault] = MappingProxyType({fault.name: fault for fault in CATALOGUE})


def fault_of(name: str) -> Fault:
    """The fault of a name. Raises FaultMistake that names those there are."""
    if name not in FAULTS:
        raise FaultMistake(f"there is no fault {name!r}; faults: {', '.join(FAULTS)}")
    return FAULTS[name]
