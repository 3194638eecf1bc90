"""What Tasmota's STATE, INFO, STATUS and discovery messages tell of a device."""

from __future__ import annotations

from typing import Any

import msgspec

from app.protocol.foreign import Facts
from app.protocol.tasmota_json import Section, duration_s, hardware_address, number, section, whole, words

_SHORT = 64
_LONGEST_SSID = 32
_LARGEST_COUNT = 2**32
_LONGEST_UPTIME_S = 2**32
_NAME_AS_DELIVERED = "Tasmota"
SHORTEST_PERIOD_S, LONGEST_PERIOD_S = 10, 3600


def signal_dbm(wifi: Section) -> int | None:
    """The signal of a Wifi section in dBm.

    `Signal` is dBm. Firmware of 2018 has only `RSSI`, a percentage of 2 * (dBm + 100) cut at both ends: 0 and 100 are
    bounds (-100 or less, -50 or more), and the bound is what is given then.
    """
    if "Signal" in wifi:
        return whole(wifi.get("Signal"), -127, -1)
    percent = number(wifi.get("RSSI"), 0, 100)
    return None if percent is None else round(percent / 2 - 100)


def of_state(state: Section) -> Facts:
    """STATE, and StatusSTS. The `Channel` outside `Wifi` is a lamp's; Heap and what else it holds is left."""
    wifi = section(state.get("Wifi"))
    down_s = duration_s(wifi.get("Downtime"))
    bssid = hardware_address(wifi.get("BSSId"))
    return Facts(
        ssid=words(wifi.get("SSId"), _LONGEST_SSID),
        # The name the key had in 2018.
        bssid=bssid or hardware_address(wifi.get("APMac")),
        channel=whole(wifi.get("Channel"), 1, 255),
        rssi_dbm=signal_dbm(wifi),
        wifi_connects=whole(wifi.get("LinkCount"), 0, _LARGEST_COUNT),
        wifi_down_ms=None if down_s is None else down_s * 1000,
        uptime_s=_uptime_s(state),
    )


def of_info(message: Section) -> Facts:
    """INFO1 to INFO3, sent after a start: wrapped in `Info1` to `Info3` since 2022, bare before."""
    info = next((section(message[key]) for key in ("Info1", "Info2", "Info3") if key in message), message)
    reason = info.get("RestartReason")
    return Facts(
        model=words(info.get("Module"), _SHORT),
        firmware=words(info.get("Version"), _SHORT),
        ip=words(info.get("IPAddress"), _SHORT),
        reset_reason=words(reason, _SHORT),
    )


def of_status(message: Section) -> Facts:
    """STATUS and STATUS1 to STATUS11, in one message or in many."""
    general = section(message.get("Status"))
    parameters = section(message.get("StatusPRM"))
    firmware = section(message.get("StatusFWR"))
    logging = section(message.get("StatusLOG"))
    network = section(message.get("StatusNET"))
    said = Facts(
        name=_name(general.get("DeviceName"), general.get("FriendlyName")),
        firmware=words(firmware.get("Version"), _SHORT),
        hardware=words(firmware.get("Hardware"), _SHORT),
        ip=words(network.get("IPAddress"), _SHORT),
        mac=hardware_address(network.get("Mac")),
        reset_reason=words(parameters.get("RestartReason"), _SHORT),
        uptime_s=duration_s(parameters.get("Uptime")),
        period_ms=period_ms(logging.get("TelePeriod")),
    )
    return both(said, of_state(section(message.get("StatusSTS"))))


def of_discovery(config: Section) -> Facts:
    """The retained announcement of a device."""
    return Facts(
        name=_name(config.get("dn"), config.get("fn")) or words(config.get("hn"), _SHORT),
        model=words(config.get("md"), _SHORT),
        firmware=words(config.get("sw"), _SHORT),
        ip=words(config.get("ip"), _SHORT),
        mac=hardware_address(config.get("mac")),
    )


def of_result(message: Section) -> Facts:
    """Answers to commands, whoever sent them."""
    return Facts(period_ms=period_ms(message.get("TelePeriod")))


def contract_serial(contract: Section) -> str | None:
    """The meter's number of a CONTRACT, 12 digits: as a number it has lost its leading zeros."""
    serial = contract.get("serial")
    if isinstance(serial, int) and not isinstance(serial, bool):
        serial = str(serial)
    if not isinstance(serial, str) or not (serial.isascii() and serial.isdigit() and len(serial) <= 12):
        return None
    return serial.zfill(12) if serial.strip("0") else None


def period_ms(seconds: object) -> int | None:
    """A TelePeriod in milliseconds; 0 is none, the device is silent then."""
    found = whole(seconds, SHORTEST_PERIOD_S, LONGEST_PERIOD_S)
    return None if found is None else found * 1000


def both(first: Facts, second: Facts) -> Facts:
    """What two messages say together; the second counts where both say something."""
    return msgspec.structs.replace(first, **said_by(second))


def said_by(facts: Facts) -> dict[str, Any]:
    """The fields that are known."""
    return {field: value for field in facts.__struct_fields__ if (value := getattr(facts, field)) is not None}


def _uptime_s(state: Section) -> int | None:
    seconds = whole(state.get("UptimeSec"), 0, _LONGEST_UPTIME_S)
    return duration_s(state.get("Uptime")) if seconds is None else seconds


def _name(device_name: object, friendly_names: object) -> str | None:
    """The name its owner gave it, if any: every device is delivered under the same one."""
    friendly = friendly_names[:1] if isinstance(friendly_names, list) else [friendly_names]
    for candidate in (device_name, *friendly):
        name = words(candidate, _SHORT)
        if name is not None and name != _NAME_AS_DELIVERED:
            return name
    return None
