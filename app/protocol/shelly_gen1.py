"""Shelly energy meters of the first generation (EM, 3EM) over MQTT: `shellies/<id>/...`, one bare value a topic.

Values that arrive together become one reading: when all that are expected of all emeters came, or a moment after the
first. A 3EM is one device of three phases; the two emeters of an EM are devices of their own, `<id>:0` and `<id>:1`.

`energy` and `returned_energy` are not used: they count Watt-minutes since the last start, and an index that falls with
every power cut is none. `total` and `total_returned` are Wh for life. `info` repeats what the topics say; only facts
are taken of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.domain.reading import Reading
from app.protocol.codec import Reason
from app.protocol.foreign import MOST_DEVICES, Facts, Heard, Presence, Refusal, Sending, What
from app.protocol.messages import Ack, Cmd, Fota
from app.protocol.shelly_values import (
    CURRENT,
    ENERGY,
    LONGEST_ID,
    POWER,
    VOLTAGE,
    facts_of_id,
    is_later_generation,
    json_of,
    mac_of,
    merged,
    number_of_text,
    rssi_of,
    text_of,
    truth_of,
    whole_of,
)

PREFIX = "shellies/"
WINDOW_US = 1_500_000
# A phase that does not change may be left out of a burst, yet it is in every periodic one (30 s as delivered). What is
# older does not join a total: a sum that is half new is worse than none.
FRESH_US = 60_000_000
_BOUNDS = {"power": POWER, "voltage": VOLTAGE, "current": CURRENT, "total": ENERGY, "total_returned": ENERGY}
# What opens no window: not in a reading.
_UNUSED = frozenset({"pf", "reactive_power", "energy", "returned_energy"})
_COMPLETE_EM = frozenset(
    (emeter, name) for emeter in (0, 1) for name in ("power", "voltage", "total", "total_returned")
)
_COMPLETE_3EM = frozenset((emeter, name) for emeter in (0, 1, 2) for name in _BOUNDS)
_IS_3EM = {"SHEM-3": True, "SHEM": False}
_Key = tuple[int, str]


class _Module:
    """A device: the window that is open, the last values with their times, and which command waits for an answer."""

    __slots__ = ("asked", "facts", "is_3em", "opened_us", "status", "values", "window")

    def __init__(self, base: str) -> None:
        self.facts = facts_of_id(base)
        self.is_3em: bool | None = None
        if base.startswith("shellyem3-"):
            self.is_3em = True
        elif base.startswith("shellyem-"):
            self.is_3em = False
        self.window: set[_Key] = set()
        self.opened_us = 0
        self.values: dict[_Key, tuple[float, int]] = {}
        self.asked: tuple[str, str] | None = None
        self.status: str | None = None

    def devices(self, base: str) -> list[str]:
        """The devices it is to us."""
        return [f"{base}:0", f"{base}:1"] if self.is_3em is False else [base]


class ShellyGen1:
    """The dialect; see app.protocol.foreign.Dialect."""

    name = "shelly_gen1"
    filters = (f"{PREFIX}#",)

    def __init__(self) -> None:
        self._modules: dict[str, _Module] = {}
        self._open: dict[str, None] = {}

    def claims(self, topic: str) -> bool:
        """Everything below `shellies/` but what Gen2 devices say whose prefix was put there."""
        if not topic.startswith(PREFIX):
            return False
        base, _, rest = topic[len(PREFIX) :].partition("/")
        if rest in {"events/rpc", "rpc", "status"} or rest.startswith("status/"):
            return False
        return not is_later_generation(base)

    def take(self, topic: str, payload: bytes, *, retained: bool, arrival_us: int) -> Sequence[Heard]:
        """What a message says; never raises."""
        if not self.claims(topic) or (retained and not payload):
            return ()
        base, _, rest = topic[len(PREFIX) :].partition("/")
        levels = rest.split("/")
        if topic == f"{PREFIX}announce" or rest in {"announce", "info"}:
            return self._take_json(base, rest, payload, retained=retained)
        if not 0 < len(base) <= LONGEST_ID:
            return ()
        if rest == "online":
            return self._take_online(base, payload)
        if len(levels) == 3 and levels[0] == "emeter" and levels[1] in {"0", "1", "2"} and levels[2] in _BOUNDS:
            key = (int(levels[1]), levels[2])
            value = number_of_text(payload, _BOUNDS[levels[2]])
            if isinstance(value, Refusal):
                return [Heard(base, value)]
            return self._take_value(base, key, value, retained=retained, arrival_us=arrival_us)
        # Relays, temperatures, our own commands, and what is in _UNUSED.
        return ()

    def due(self, arrival_us: int) -> Sequence[Heard]:
        """Readings of windows that were open long enough."""
        heard: list[Heard] = []
        for base in list(self._open):
            module = self._modules[base]
            # A clock that was set back must not keep a window open.
            if not 0 <= arrival_us - module.opened_us < WINDOW_US:
                heard.extend(self._close(base, module))
        return heard

    def send(self, device: str, command: Cmd) -> Sequence[Sending] | None:
        """Commands `diagnose` (it announces itself) and `update` (to the maker's newest); no reboot by MQTT."""
        base = _base_of(device)
        if not base or len(base) > LONGEST_ID or any(sign in base for sign in "/+#\0"):
            return None
        words = {"diagnose": "announce", "update": "update_fw"}
        if command.name not in words or (command.args or {}).get("url") is not None:
            return None
        if (command.args or {}).get("stage", "stable") != "stable":
            return None
        module = self._modules.get(base)
        if module is not None:
            module.asked = (device, command.id) if command.name == "diagnose" else module.asked
        return [Sending(f"{PREFIX}{base}/command", words[command.name].encode())]

    def forget(self, device: str) -> None:
        """Drop the state of a device, both emeters of it."""
        self._modules.pop(_base_of(device), None)
        self._open.pop(_base_of(device), None)

    def _module(self, base: str, heard: list[Heard]) -> _Module | None:
        module = self._modules.get(base)
        if module is None:
            if len(self._modules) >= MOST_DEVICES:
                heard.append(Heard("", Refusal("too_many_devices", base)))
                return None
            module = self._modules[base] = _Module(base)
            heard.extend(_to_all(base, module, module.facts))
        return module

    def _take_online(self, base: str, payload: bytes) -> Sequence[Heard]:
        online = truth_of(payload[:16].decode("ascii", "replace"))
        if online is None:
            return [Heard(base, Refusal(Reason.TYPE, "online is true or false"))]
        heard: list[Heard] = []
        module = self._module(base, heard)
        return heard if module is None else [*heard, *_to_all(base, module, Presence(online))]

    def _take_value(self, base: str, key: _Key, value: float, *, retained: bool, arrival_us: int) -> Sequence[Heard]:
        heard: list[Heard] = []
        module = self._module(base, heard)
        if module is None:
            return heard
        # An EM has two emeters and no current.
        if key[0] == 2 or (key[1] == "current" and module.is_3em is None):
            module.is_3em = True
        if retained:
            return heard
        if key in module.window or (module.window and not 0 <= arrival_us - module.opened_us < WINDOW_US):
            # The next round began.
            heard.extend(self._close(base, module))
        if not module.window:
            module.opened_us = arrival_us
            self._open[base] = None
        module.window.add(key)
        module.values[key] = (value, arrival_us)
        if module.is_3em is not None and module.window >= (_COMPLETE_3EM if module.is_3em else _COMPLETE_EM):
            heard.extend(self._close(base, module))
        return heard

    def _close(self, base: str, module: _Module) -> list[Heard]:
        """The readings of the open window."""
        window, module.window = module.window, set()
        self._open.pop(base, None)
        if module.is_3em is None:
            # Nothing but powers, voltages and totals of emeters 0 and 1: an EM under a name that its owner chose.
            module.is_3em = False
        fresh = {
            key: value
            for key, (value, at_us) in module.values.items()
            if 0 <= module.opened_us + WINDOW_US - at_us < FRESH_US
        }
        if not module.is_3em:
            readings = [(f"{base}:{emeter}", _reading(window, fresh, (emeter,))) for emeter in (0, 1)]
        else:
            readings = [(base, _reading(window, fresh, (0, 1, 2)))]
        return [Heard(device, reading) for device, reading in readings if reading is not None]

    def _take_json(self, base: str, rest: str, payload: bytes, *, retained: bool) -> Sequence[Heard]:
        message = json_of(payload)
        if isinstance(message, Refusal):
            return [Heard(base if rest else "", message)]
        if not rest:
            base = text_of(message.get("id"), LONGEST_ID) or ""
            if not base or "/" in base:
                return [Heard("", Refusal(Reason.MISSING, "id"))]
        if not 0 < len(base) <= LONGEST_ID:
            return ()
        heard: list[Heard] = []
        module = self._module(base, heard)
        if module is None:
            return heard
        emeters = message.get("emeters")
        is_3em = _IS_3EM.get(str(message.get("model")))
        if is_3em is None and isinstance(emeters, list) and len(emeters) in {2, 3}:
            is_3em = len(emeters) == 3
        module.is_3em = module.is_3em if is_3em is None else is_3em
        facts = _facts_of_info(message) if rest == "info" else _facts_of_announcement(message)
        if facts != Facts():
            module.facts = merged(module.facts, facts)
            heard.extend(_to_all(base, module, facts))
        if retained:
            return heard
        if rest == "info":
            heard.extend(_update_of(base, module, message))
        elif module.asked is not None:
            device, command = module.asked
            module.asked = None
            heard.append(Heard(device, Ack(id=command, result="done", detail="it announced itself")))
        return heard


def _base_of(device: str) -> str:
    return device[:-2] if device[-2:] in {":0", ":1"} else device


def _to_all(base: str, module: _Module, what: What) -> list[Heard]:
    return [Heard(device, what) for device in module.devices(base)]


def _reading(window: set[_Key], fresh: Mapping[_Key, float], emeters: tuple[int, ...]) -> Reading | None:
    """The reading of one device; None when the window brought it neither a power nor an index.

    A total is of all phases or none; it needs one of them in the window.
    """

    def summed(name: str) -> float | None:
        if not any((emeter, name) in window for emeter in emeters):
            return None
        values = [fresh[emeter, name] for emeter in emeters if (emeter, name) in fresh]
        total = sum(values)
        return total if len(values) == len(emeters) and _BOUNDS[name][0] <= total <= _BOUNDS[name][1] else None

    def one(at: int, name: str) -> float | None:
        return fresh.get((emeters[at], name)) if at < len(emeters) else None

    active_w, drawn_wh, injected_wh = summed("power"), summed("total"), summed("total_returned")
    if active_w is None and drawn_wh is None and injected_wh is None:
        return None
    return Reading(
        active_w=active_w,
        drawn_wh=None if drawn_wh is None else int(drawn_wh),
        injected_wh=None if injected_wh is None else int(injected_wh),
        voltage_v=one(0, "voltage"),
        voltage_2_v=one(1, "voltage"),
        voltage_3_v=one(2, "voltage"),
        current_a=one(0, "current"),
        current_2_a=one(1, "current"),
        current_3_a=one(2, "current"),
    )


def _section(message: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = message.get(name)
    return section if isinstance(section, dict) else {}


def _facts_of_announcement(message: Mapping[str, Any]) -> Facts:
    newer = truth_of(message.get("new_fw"))
    return Facts(
        maker="Shelly",
        model=text_of(message.get("model")),
        mac=mac_of(message.get("mac")),
        ip=text_of(message.get("ip"), 45),
        firmware=text_of(message.get("fw_ver")),
        # Which one it is says `info`; that there is none is known here.
        newer_firmware="" if newer is False else None,
    )


def _facts_of_info(message: Mapping[str, Any]) -> Facts:
    wifi, update = _section(message, "wifi_sta"), _section(message, "update")
    has_update = truth_of(update.get("has_update"))
    return Facts(
        mac=mac_of(message.get("mac")),
        ip=text_of(wifi.get("ip"), 45),
        ssid=text_of(wifi.get("ssid"), 32),
        rssi_dbm=rssi_of(wifi.get("rssi")),
        uptime_s=whole_of(message.get("uptime"), 0, 2**53),
        firmware=text_of(update.get("old_version")),
        newer_firmware=text_of(update.get("new_version")) if has_update else None if has_update is None else "",
    )


def _update_of(base: str, module: _Module, message: Mapping[str, Any]) -> list[Heard]:
    """An update that begins or ends, by the word in `info`."""
    update = _section(message, "update")
    before, module.status = module.status, text_of(update.get("status"))
    if module.status == before or "updating" not in {module.status, before}:
        return []
    is_running = module.status == "updating"
    old, new = text_of(update.get("old_version")), text_of(update.get("new_version"))
    if is_running:
        return _to_all(base, module, Fota(phase="downloading", from_firmware=old, to_firmware=new))
    if old is not None and old == new:
        return _to_all(base, module, Fota(phase="done", to_firmware=new))
    return []
