"""Shelly energy meters of Gen2 and later over MQTT: Pro 3EM, Pro EM, EM Gen3 and their kin.

`<prefix>/online`, `<prefix>/events/rpc`, `<prefix>/status/<component>`, `<prefix>/announce`, and answers to our own
requests. The prefix is free, so topics are claimed by their shape, and the prefix is the device's id: it is known from
every message and it is where commands go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from app.protocol.codec import Reason
from app.protocol.foreign import MOST_DEVICES, Facts, Heard, Presence, Refusal, Sending, What
from app.protocol.messages import Ack, Cmd, Fota
from app.protocol.shelly_channels import Channel
from app.protocol.shelly_facts import facts_of_info, facts_of_sys, facts_of_wifi
from app.protocol.shelly_values import (
    LONGEST_ID,
    facts_of_id,
    is_later_generation,
    json_of,
    merged,
    text_of,
    whole_of,
)

# Requests name us as `wattdeck/<device>`; devices answer on `<that>/rpc`.
ANSWERS = "wattdeck/"
# With notifications and status topics both switched on, each measurement comes twice. The notification has the
# device's time; status topics count again when none came for so long.
EVENTS_WIN_US = 30_000_000
# A clock that was never set says 1970 or the seconds since its start.
_EARLIEST_TIME_S, _LATEST_TIME_S = 1_500_000_000, 253_402_300_799
_COMPONENT = re.compile(r"(?:(em|emdata|em1|em1data):([0-9])|wifi|sys)\Z", re.ASCII)
_CHANNEL = re.compile(r"(.+):[0-9]\Z", re.ASCII)
# These measure channels of their own, never three phases: what is heard before a channel is known waits for it.
_CHANNELS_ONLY = re.compile(r"shelly(?:proem|em)[a-z0-9]*-", re.ASCII)
_WIDEST_EVENTS = 32
_OTA_PHASES = {
    "ota_begin": "downloading",
    "ota_progress": "downloading",
    "ota_success": "done",
    "ota_error": "failed",
}


class _Module:
    """What is remembered of a device: its channels by their ids, and what a later channel has to be told."""

    __slots__ = ("channels", "events_us", "facts", "online", "waits")

    def __init__(self, base: str) -> None:
        self.channels: dict[str, Channel] = {}
        self.facts = facts_of_id(base.rpartition("/")[2])
        self.online: bool | None = None
        self.events_us: int | None = None
        self.waits = _CHANNELS_ONLY.match(base.rpartition("/")[2]) is not None


class Shelly:
    """The dialect; see app.protocol.foreign.Dialect."""

    name = "shelly"
    # MQTT has no wildcard for "a prefix of some levels"; three are more than people use.
    filters = (
        *(f"{'+/' * levels}{rest}" for levels in (1, 2, 3) for rest in ("events/rpc", "online", "announce")),
        *(f"{'+/' * levels}status{rest}" for levels in (1, 2, 3) for rest in ("", "/+")),
        f"{ANSWERS}#",
    )

    def __init__(self) -> None:
        self._modules: dict[str, _Module] = {}

    def claims(self, topic: str) -> bool:
        """By shape: an answer to us, notifications, a status that only these devices have; else by its prefix."""
        base, kind = _split(topic)
        if not base or kind is None:
            return False
        if kind in {"rpc", "events/rpc"}:
            return True
        return self._is_ours(base) or (kind.startswith("status/") and _COMPONENT.match(kind[7:]) is not None)

    def take(self, topic: str, payload: bytes, *, retained: bool, arrival_us: int) -> Sequence[Heard]:
        """What a message says; never raises."""
        base, kind = _split(topic)
        if kind is None or not self.claims(topic) or (retained and not payload):
            return ()
        device = base
        if kind == "rpc":
            match = _CHANNEL.match(base)
            base = base if match is None else match[1]
        if kind == "online":
            return self._take_online(base, payload)
        message = json_of(payload)
        if kind.startswith("status/") and not self._is_ours(base) and not _looks_right(kind[7:], message):
            # Somebody else's `<x>/status/wifi`, which only looks like one of these.
            return ()
        if isinstance(message, Refusal):
            return [Heard(device, message)]
        known = base in self._modules
        if not known and len(self._modules) >= MOST_DEVICES:
            return [Heard("", Refusal("too_many_devices", base))]
        heard: list[Heard] = []
        if kind == "announce":
            self._tell_facts(base, heard, facts_of_info(message))
        elif kind == "status":
            self._take_status(base, message, heard, retained=retained, arrival_us=arrival_us, is_full=True)
        elif kind.startswith("status/"):
            self._take_status(base, {kind[7:]: message}, heard, retained=retained, arrival_us=arrival_us, topic=True)
        elif kind == "rpc":
            self._take_answer(device, base, message, heard, retained=retained, arrival_us=arrival_us)
        else:
            self._take_notification(base, message, heard, retained=retained, arrival_us=arrival_us)
        return heard

    def due(self, arrival_us: int) -> Sequence[Heard]:  # noqa: ARG002 - nothing waits: each message is whole
        """Nothing."""
        return ()

    def send(self, device: str, command: Cmd) -> Sequence[Sending] | None:
        """reboot, diagnose, and update with `stage` (stable, beta) or `url`; None for others."""
        if not device or len(device) > LONGEST_ID or any(sign in device for sign in "+#\0"):
            return None
        args = command.args or {}
        method = ""
        params: dict[str, Any] = {}
        if command.name == "reboot":
            method = "Shelly.Reboot"
            delay_s = whole_of(args.get("delay_s"), 1, 3600)
            params = {} if delay_s is None else {"delay_ms": delay_s * 1000}
        elif command.name == "diagnose":
            method = "Shelly.GetStatus"
        elif command.name == "update":
            method, url, stage = "Shelly.Update", args.get("url"), args.get("stage", "stable")
            if url is not None:
                params = {"url": url} if isinstance(url, str) and url.startswith(("http://", "https://")) else {}
            elif stage in {"stable", "beta"}:
                params = {"stage": stage}
            if not params:
                return None
        if not method:
            return None
        request = {"id": command.id, "src": f"{ANSWERS}{device}", "method": method, "params": params}
        if not params:
            del request["params"]
        match = _CHANNEL.match(device)
        return [Sending(f"{device if match is None else match[1]}/rpc", msgspec.json.encode(request))]

    def forget(self, device: str) -> None:
        """Drop a channel's state, and the device's with its last channel."""
        match = _CHANNEL.match(device)
        module = self._modules.get(device if match is None else match[1])
        if module is not None:
            module.channels.pop(device, None)
        if module is None or not module.channels:
            self._modules.pop(device if match is None else match[1], None)

    def _is_ours(self, base: str) -> bool:
        last = base.rpartition("/")[2]
        if base in self._modules:
            return True
        # `shellies/` is where Gen1 lives; a Gen2 device below it is told by its factory id.
        return is_later_generation(last) if base.startswith("shellies/") else last.startswith("shelly")

    def _module(self, base: str, heard: list[Heard]) -> _Module:
        module = self._modules.get(base)
        if module is None:
            module = self._modules[base] = _Module(base)
            heard.extend(self._to_all(base, module, module.facts))
        return module

    @staticmethod
    def _to_all(base: str, module: _Module, what: What) -> list[Heard]:
        """Something of the whole device: each channel is told, or the device where there are none."""
        devices = module.channels or ([] if module.waits else [base])
        return [Heard(device, what) for device in devices]

    def _channel(self, base: str, kind: str, number: str, heard: list[Heard]) -> Channel:
        module = self._module(base, heard)
        device = _device_of(base, kind, number)
        channel = module.channels.get(device)
        if channel is None:
            channel = module.channels[device] = Channel()
            if device != base or module.waits:
                heard.append(Heard(device, module.facts))
                if module.online is not None:
                    heard.append(Heard(device, Presence(module.online)))
        return channel

    def _tell_facts(self, base: str, heard: list[Heard], facts: Facts) -> None:
        module = self._module(base, heard)
        if facts != Facts():
            module.facts = merged(module.facts, facts)
            heard.extend(self._to_all(base, module, facts))

    def _take_online(self, base: str, payload: bytes) -> Sequence[Heard]:
        online = {b"true": True, b"false": False}.get(payload.strip().lower() if len(payload) < 16 else b"")
        if online is None:
            return [Heard(base, Refusal(Reason.TYPE, "online is true or false"))]
        if base not in self._modules and len(self._modules) >= MOST_DEVICES:
            return [Heard("", Refusal("too_many_devices", base))]
        heard: list[Heard] = []
        module = self._module(base, heard)
        module.online = online
        if not online:
            # What it says when it is back begins with a whole status; older values must not mix into it.
            for channel in module.channels.values():
                channel.clear()
        return [*heard, *self._to_all(base, module, Presence(online))]

    def _take_notification(
        self, base: str, message: Mapping[str, Any], heard: list[Heard], *, retained: bool, arrival_us: int
    ) -> None:
        method, params = message.get("method"), message.get("params")
        if not isinstance(method, str) or not isinstance(params, dict):
            heard.append(Heard(base, Refusal(Reason.MISSING, "method and params")))
            return
        source = text_of(message.get("src"), LONGEST_ID)
        known = base in self._modules
        if source is not None and not known:
            self._tell_facts(base, heard, facts_of_id(source))
        if method == "NotifyEvent":
            self._take_events(base, params.get("events"), heard)
        elif method in {"NotifyStatus", "NotifyFullStatus"}:
            self._take_status(
                base, params, heard, retained=retained, arrival_us=arrival_us, is_full=method == "NotifyFullStatus"
            )
            if not retained and any(name.startswith("em") for name in params):
                self._module(base, heard).events_us = arrival_us

    def _take_events(self, base: str, events: object, heard: list[Heard]) -> None:
        if not isinstance(events, list):
            heard.append(Heard(base, Refusal(Reason.TYPE, "events is a list")))
            return
        module = self._module(base, heard)
        for event in events[:_WIDEST_EVENTS]:
            name = event.get("event") if isinstance(event, dict) else None
            phase = _OTA_PHASES.get(name) if isinstance(name, str) else None
            if phase is None:
                continue
            percent = whole_of(event.get("progress_percent"), 0, 100)
            fota = Fota(
                phase=phase,
                percent=None if percent is None else float(percent),
                time_ms=_time_ms(event.get("ts")),
                error="device" if phase == "failed" else None,
                detail=text_of(event.get("msg"), 512),
            )
            heard.extend(self._to_all(base, module, fota))

    def _take_answer(
        self,
        device: str,
        base: str,
        message: Mapping[str, Any],
        heard: list[Heard],
        *,
        retained: bool,
        arrival_us: int,
    ) -> None:
        """An answer to one of our requests; a whole status in it is taken like any other."""
        wanted, error, result = message.get("id"), message.get("error"), message.get("result")
        command = text_of(wanted) or (str(wanted) if type(wanted) is int and abs(wanted) < 2**63 else None)
        if command is None or ("result" not in message and not isinstance(error, dict)):
            heard.append(Heard(device, Refusal(Reason.MISSING, "id and result, or error")))
            return
        data: dict[str, Any] | None = None
        if isinstance(result, dict) and ("sys" in result or "wifi" in result):
            before = len(heard)
            self._take_status(base, result, heard, retained=retained, arrival_us=arrival_us, is_full=True)
            facts = [one.what for one in heard[before:] if isinstance(one.what, Facts)]
            data = {name: value for fact in facts for name, value in msgspec.to_builtins(fact).items()} or None
        if retained:
            return
        if isinstance(error, dict):
            detail = f"{error.get('message')} ({error.get('code')})"[:512]
            heard.append(Heard(device, Ack(id=command, result="failed", detail=detail)))
        else:
            heard.append(Heard(device, Ack(id=command, result="done", data=data)))

    def _take_status(
        self,
        base: str,
        status: Mapping[str, Any],
        heard: list[Heard],
        *,
        retained: bool,
        arrival_us: int,
        is_full: bool = False,
        topic: bool = False,
    ) -> None:
        """Components, whole or partial. Indexes are taken first: they belong to the power that came with them."""
        time_ms = _time_ms(status.get("ts"))
        rssi_dbm: int | None = None
        powers: list[tuple[str, Channel, Mapping[str, Any]]] = []
        cleared: set[int] = set()
        for name in sorted(status, key=lambda name: "data:" not in name):
            match = _COMPONENT.match(name)
            if match is None:
                continue
            component = status[name]
            if not isinstance(component, dict):
                heard.append(Heard(base, Refusal(Reason.TYPE, f"{name} is an object")))
                continue
            kind, number = match[1], match[2]
            if kind is None:
                facts = facts_of_wifi(component) if name == "wifi" else facts_of_sys(component)
                rssi_dbm = facts.rssi_dbm or rssi_dbm
                self._tell_facts(base, heard, facts)
                continue
            channel = self._channel(base, kind, number, heard)
            if retained:
                continue
            if is_full and id(channel) not in cleared:
                cleared.add(id(channel))
                channel.clear()
            refusal = channel.overlay(component)
            if refusal is not None:
                heard.append(Heard(base, refusal))
            if not kind.endswith("data"):
                powers.append((_device_of(base, kind, number), channel, component))
        if topic and powers and self._has_events(base, arrival_us):
            return
        for device, channel, component in powers:
            reading = channel.reading(component, time_ms, rssi_dbm)
            if reading is not None:
                heard.append(Heard(device, reading))

    def _has_events(self, base: str, arrival_us: int) -> bool:
        module = self._modules.get(base)
        return (
            module is not None and module.events_us is not None and abs(arrival_us - module.events_us) < EVENTS_WIN_US
        )


def _split(topic: str) -> tuple[str, str | None]:
    """Prefix and kind: rpc (an answer to us), events/rpc, online, announce, status or status/<component>."""
    if topic.startswith(ANSWERS):
        base, _, last = topic[len(ANSWERS) :].rpartition("/")
        return (base, "rpc") if last == "rpc" and len(base) <= LONGEST_ID else ("", None)
    base, _, last = topic.rpartition("/")
    if last not in {"online", "announce", "status"}:
        base, _, middle = base.rpartition("/")
        if middle != "status" and (middle, last) != ("events", "rpc"):
            return "", None
        last = f"{middle}/{last}"
    return (base, last) if 0 < len(base) <= LONGEST_ID else ("", None)


def _device_of(base: str, kind: str, number: str) -> str:
    """Three phases are the device itself; channels of their own are a device each."""
    return base if kind in {"em", "emdata"} and number == "0" else f"{base}:{number}"


def _looks_right(component: str, message: dict[str, Any] | Refusal) -> bool:
    """Whether a status on a prefix that nobody knows is one of these devices'."""
    if component in {"wifi", "sys"}:
        wanted = {"sta_ip", "rssi"} if component == "wifi" else {"mac", "uptime"}
        return isinstance(message, dict) and wanted <= message.keys()
    return True


def _time_ms(value: object) -> int | None:
    if type(value) not in {int, float} or not _EARLIEST_TIME_S <= value <= _LATEST_TIME_S:  # type: ignore[operator]
        return None
    return round(value * 1000)  # type: ignore[operator]
