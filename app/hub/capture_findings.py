"""What a capture held, whatever it was of: messages, readings, presence, devices, refused parts; how that is shown."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from app.domain.reading import Reading, StateBit

# Enough to look at, and what keeps a day's capture (100,000 readings) within some megabytes of answer.
MAX_READINGS_KEPT = 100_000
MAX_NOTES_KEPT = 1_000
_FEW_READINGS = 3
_SHOWN_NOTES = 20
# Numbers of meters and delivery points, wherever they stand.
_LONG_NUMBER = re.compile(r"\d{12,14}")
_PERSONAL_FACTS = ("meter_serial", "mac", "ssid", "bssid", "ip")


class FoundReading(NamedTuple):
    """A reading and whose it is; `at_ms` is when its message came, None where a capture has no such time."""

    dialect: str
    device: str
    at_ms: int | None
    reading: Reading


@dataclasses.dataclass(slots=True)
class Findings:
    """The findings. `devices` maps (dialect, device) to what was said of it; lists keep the first ones."""

    kind: str
    messages: int = 0
    bytes_read: int = 0
    readings: list[FoundReading] = dataclasses.field(default_factory=list)
    readings_made: int = 0
    presence: list[tuple[str, str, bool]] = dataclasses.field(default_factory=list)
    devices: dict[tuple[str, str], dict[str, Any]] = dataclasses.field(default_factory=dict)
    # Reason, detail, where.
    quarantined: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    warnings: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    # Messages that no dialect claims, and messages that say something of no use to the counts above.
    unclaimed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    others: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    hints: list[str] = dataclasses.field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether something was understood."""
        return bool(self.readings_made or self.devices or self.presence or self.others)

    def found_reading(self, dialect: str, device: str, at_ms: int | None, reading: Reading) -> None:
        """Note a reading."""
        self.devices.setdefault((dialect, device), {})
        self.readings_made += 1
        if len(self.readings) < MAX_READINGS_KEPT:
            self.readings.append(FoundReading(dialect, device, at_ms, reading))

    def found_presence(self, dialect: str, device: str, *, online: bool) -> None:
        """Note that a device is there or gone."""
        self.devices.setdefault((dialect, device), {})
        if len(self.presence) < MAX_NOTES_KEPT:
            self.presence.append((dialect, device, online))

    def found_facts(self, dialect: str, device: str, facts: dict[str, Any]) -> None:
        """Note what was said of a device; later facts are over earlier ones."""
        self.devices.setdefault((dialect, device), {}).update(facts)

    def refused(self, reason: str, detail: str, where: str) -> None:
        """Note a part that could not be used."""
        self.reasons[reason] += 1
        if len(self.quarantined) < MAX_NOTES_KEPT:
            self.quarantined.append((reason, detail, where))

    def unclaimed_topic(self, topic: str) -> None:
        """Note a message of nobody we know."""
        known = topic in self.unclaimed or len(self.unclaimed) < MAX_NOTES_KEPT
        self.unclaimed[topic if known else "..."] += 1


def masked(number: str) -> str:
    """A meter's number as it may be shown: its beginning (maker, year, type), but not which one."""
    return number[:6] + "x" * (len(number) - 6)


def as_json(found: Findings, *, show_ids: bool) -> dict[str, Any]:
    """The findings for a program."""
    shown = _plain if show_ids else _masked_device
    return {
        "kind": found.kind,
        "messages": found.messages,
        "readings": [
            {
                "dialect": dialect,
                "device": shown(dialect, device),
                **({} if at_ms is None else {"at_ms": at_ms}),
                **msgspec.to_builtins(reading, str_keys=True),
            }
            for dialect, device, at_ms, reading in found.readings
        ],
        "presence": [
            {"dialect": dialect, "device": shown(dialect, device), "online": online}
            for dialect, device, online in found.presence
        ],
        "discovered": [
            {
                "dialect": dialect,
                "device": shown(dialect, device),
                "facts": facts if show_ids else _masked_facts(facts),
            }
            for (dialect, device), facts in found.devices.items()
        ],
        "quarantined": [
            {"reason": reason, "detail": detail, "where": where if show_ids else _masked_text(where)}
            for reason, detail, where in found.quarantined
        ],
        "reasons": dict(sorted(found.reasons.items())),
        "warnings": dict(sorted(found.warnings.items())),
        "unclaimed": {
            topic if show_ids else _masked_text(topic): count for topic, count in found.unclaimed.most_common()
        },
        "others": dict(sorted(found.others.items())),
        "hints": found.hints,
    }


def as_table(found: Findings, name: str, *, show_ids: bool) -> Iterator[str]:
    """The findings for a person."""
    shown = _plain if show_ids else _masked_device
    yield f"{name}: {found.bytes_read} bytes, {found.kind}"
    yield _row("messages", str(found.messages))
    for (dialect, device), facts in found.devices.items():
        yield _row("device", f"{shown(dialect, device)} ({dialect})")
        for fact, text in (facts if show_ids else _masked_facts(facts)).items():
            yield _row(f"  {fact.replace('_', ' ')}", text)
    for dialect, device, online in found.presence[:_SHOWN_NOTES]:
        yield _row("presence", f"{shown(dialect, device)} is {'there' if online else 'gone'}")
    kept = "" if found.readings_made == len(found.readings) else f" (the first {len(found.readings)} are shown)"
    yield _row("readings", f"{found.readings_made}{kept}")
    all_of_them = found.readings
    few = all_of_them if len(all_of_them) <= _FEW_READINGS else [all_of_them[0], all_of_them[-1]]
    for number, one in enumerate(few):
        title = {0: "  first", len(few) - 1: "  last"}.get(number, "") if len(few) > 1 else ""
        yield _row(title, reading_line(one.reading))
    for (reason, detail, where), _ in zip(found.quarantined, range(_SHOWN_NOTES), strict=False):
        yield _row("refused", f"{where if show_ids else _masked_text(where)}: {reason} {detail}".rstrip())
    if sum(found.reasons.values()) > _SHOWN_NOTES:
        yield _row("refused", f"{sum(found.reasons.values())} in all")
    for warning, count in sorted(found.warnings.items()):
        yield _row("warning", f"{count} x {warning.replace('_', ' ')}")
    for topic, count in found.unclaimed.most_common(_SHOWN_NOTES):
        yield _row("of nobody known", f"{count} x {topic if show_ids else _masked_text(topic)}")
    for hint in found.hints:
        yield _row("hint", hint)


def reading_line(reading: Reading) -> str:
    """A reading on one line."""
    parts = []
    if reading.time_ms is not None:
        parts.append(dt.datetime.fromtimestamp(reading.time_ms / 1000, dt.UTC).isoformat(timespec="seconds"))
    if reading.active_w is not None:
        parts.append(f"{reading.active_w:g} W")
    if reading.apparent_va is not None:
        parts.append(f"{reading.apparent_va:g} VA")
    if reading.drawn_wh is not None:
        parts.append(f"drawn {reading.drawn_wh} Wh")
    if reading.injected_wh is not None:
        parts.append(f"injected {reading.injected_wh} Wh")
    if reading.register is not None:
        parts.append(f"register {reading.register}")
    volts = [volt for volt in (reading.voltage_v, reading.voltage_2_v, reading.voltage_3_v) if volt is not None]
    amperes = [ampere for ampere in (reading.current_a, reading.current_2_a, reading.current_3_a) if ampere is not None]
    if volts:
        parts.append("/".join(f"{volt:g}" for volt in volts) + " V")
    if amperes:
        parts.append("/".join(f"{ampere:g}" for ampere in amperes) + " A")
    for title, value, unit in (
        ("gas", reading.gas_m3, "m3"),
        ("water", reading.water_m3, "m3"),
        ("heat", reading.heat_gj, "GJ"),
    ):
        if value is not None:
            parts.append(f"{title} {value:g} {unit}")
    if reading.rssi_dbm is not None:
        parts.append(f"{reading.rssi_dbm} dBm")
    bits = [bit.name.lower().replace("_", " ") for bit in StateBit if (reading.state or 0) & bit and bit.name]
    if bits:
        parts.append(f"[{', '.join(bits)}]")
    return ", ".join(parts)


def _row(title: str, text: object) -> str:
    return f"  {title:<20} {text}"


def _plain(_dialect: str, device: str) -> str:
    return device


def _masked_device(dialect: str, device: str) -> str:
    """A meter's number whole; of a module's name only what looks like a meter's number in it."""
    return masked(device) if dialect in ("tic", "dsmr") else _masked_text(device)


def _masked_text(text: str) -> str:
    return _LONG_NUMBER.sub(lambda found: masked(found[0]), text)


def _masked_facts(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: masked(str(value))
        if name in _PERSONAL_FACTS
        else _masked_text(value)
        if isinstance(value, str)
        else value
        for name, value in facts.items()
    }
