"""What Shelly Gen2 and later say of themselves: radio, system and device information to facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.protocol.foreign import Facts
from app.protocol.shelly_values import mac_of, rssi_of, text_of, whole_of

# esp_reset_reason_t of ESP-IDF.
_RESET_REASONS = {
    1: "power_on",
    2: "external",
    3: "software",
    4: "panic",
    5: "watchdog",
    6: "watchdog",
    7: "watchdog",
    8: "deep_sleep",
    9: "brownout",
}


def facts_of_wifi(wifi: Mapping[str, Any]) -> Facts:
    """The component `wifi`."""
    return Facts(
        rssi_dbm=rssi_of(wifi.get("rssi")),
        ssid=text_of(wifi.get("ssid"), 32),
        ip=text_of(wifi.get("sta_ip"), 45),
        bssid=mac_of(wifi.get("bssid")),
        channel=whole_of(wifi.get("channel"), 1, 255),
    )


def facts_of_sys(system: Mapping[str, Any]) -> Facts:
    """The component `sys`."""
    reason = whole_of(system.get("reset_reason"), 0, 255)
    updates = system.get("available_updates")
    newer: str | None = None
    if isinstance(updates, dict):
        stable = updates.get("stable")
        # An empty object says that there is none, which is more than not knowing.
        newer = text_of(stable.get("version")) if isinstance(stable, dict) else ""
    return Facts(
        uptime_s=whole_of(system.get("uptime"), 0, 2**53),
        reset_reason=None if reason is None else _RESET_REASONS.get(reason, f"code {reason}"),
        newer_firmware=newer,
        mac=mac_of(system.get("mac")),
    )


def facts_of_info(info: Mapping[str, Any]) -> Facts:
    """Shelly.GetDeviceInfo, as it is announced."""
    return Facts(
        name=text_of(info.get("name")),
        maker="Shelly",
        model=text_of(info.get("app")) or text_of(info.get("model")),
        hardware=text_of(info.get("model")),
        firmware=text_of(info.get("ver")),
        mac=mac_of(info.get("mac")),
    )
