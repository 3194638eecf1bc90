"""Makes readings of P1 telegrams: active power, indexes, registers, phases, and the meters behind the meter.

Register numbers are the meter's own tariffs: in the Netherlands 1 is the low one, in Belgium 1 is the day; see
`meter_facts`. Numbers of meters are personal data and never part of a reading.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterator
from decimal import Decimal

from app.domain.linky import MeterTime
from app.domain.reading import LARGEST_COUNTER, Reading, StateBit
from app.protocol.dsmr.objects import (
    AMPERES,
    CUBIC_METRES,
    GIGAJOULES,
    VOLTS,
    WATTS,
    Factors,
    bounded,
    identifier,
    meter_time,
    quantity,
    watt_hours,
)
from app.protocol.dsmr.telegrams import Telegram
from app.protocol.tic.index_guard import IndexGuard, Verdict

# In this order: the number of P1, of Belgian and German meters, the owner's number.
_NUMBERS = ("0-0:96.1.1", "0-0:96.1.0", "1-0:96.1.0", "0-0:96.1.255", "0-0:42.0.0", "1-0:0.0.0")
# More than a connection of 3 x 80 A gives: only telegrams without a CRC are judged by it.
_LARGEST_CONNECTION_VA = 250_000
_LARGEST_POWER_W = 1_000_000
_PHASES = ((21, 22, 32, 31), (41, 42, 52, 51), (61, 62, 72, 71))
_CHANNELS = range(1, 10)
# M-Bus device types (EN 13757-3) to the field they fill.
_GAS, _HEAT, _WARM_WATER, _WATER, _HEAT_AT_INLET = 3, 4, 6, 7, 12
_PASSED_ON: dict[int, tuple[str, Factors]] = {
    _GAS: ("gas_m3", CUBIC_METRES),
    _HEAT: ("heat_gj", GIGAJOULES),
    _HEAT_AT_INLET: ("heat_gj", GIGAJOULES),
    _WATER: ("water_m3", CUBIC_METRES),
    _WARM_WATER: ("water_m3", CUBIC_METRES),
}


class Warn(enum.StrEnum):
    """What is odd about a telegram although it could be used."""

    BAD_LINES = "bad_lines"
    INDEX_FELL = "index_fell"
    INDEX_JUMPED = "index_jumped"
    DATE_INVALID = "date_invalid"


_WARN_OF_VERDICT = {Verdict.FELL: Warn.INDEX_FELL, Verdict.JUMPED: Warn.INDEX_JUMPED}


@dataclasses.dataclass(frozen=True, slots=True)
class TelegramReading:
    """A reading, None when the telegram holds nothing to read, and what was odd about it."""

    reading: Reading | None
    warnings: tuple[Warn, ...]
    meter_time: MeterTime | None


def meter_number(telegram: Telegram) -> str:
    """The meter's number; of one that sends none, its identification (which is that of its type)."""
    for code in _NUMBERS:
        number = identifier(_first(telegram, code))
        # Zeros alone are what a meter says that was never given a number.
        if number is not None and number.strip("0"):
            return number
    return telegram.identification


class ReadingMaker:
    """Makes the readings of one meter, telegram by telegram; what it remembers is of the telegram before.

    The index of a gas, water or heat meter is in a reading when its time or its value is new: such meters are read
    every 5 minutes or every hour, and repeated in each telegram meanwhile.
    """

    def __init__(self) -> None:
        self._drawn = IndexGuard()
        self._injected = IndexGuard()
        self._last_at_us: int | None = None
        self._passed_on: dict[str, tuple[str, ...]] = {}

    def read(self, telegram: Telegram, at_us: int | None = None) -> TelegramReading:
        """The reading of a telegram. `at_us` is when it ended, by a steady clock; None for a capture."""
        warnings: list[Warn] = []
        if telegram.bad_lines:
            warnings.append(Warn.BAD_LINES)
        date = _first(telegram, "0-0:1.0.0")
        time = meter_time(date)
        if date and time is None:
            warnings.append(Warn.DATE_INVALID)
        now_us = at_us if at_us is not None else time.time_ms * 1000 if time else None
        registers = _registers(telegram, 1)
        drawn = _index(telegram, 1, registers)
        trusted = self._guarded(self._drawn, drawn, telegram, now_us, warnings)
        injected = _index(telegram, 2, _registers(telegram, 2))
        others = self._new_of_others(telegram)
        phases = [_phase(telegram, voltage, current) for _, _, voltage, current in _PHASES]
        reading = Reading(
            time_ms=time.time_ms if time else None,
            active_w=_power(telegram),
            drawn_wh=drawn if trusted else None,
            injected_wh=injected if self._guarded(self._injected, injected, telegram, now_us, warnings) else None,
            register=_running(telegram),
            registers_wh=(registers or None) if trusted else None,
            voltage_v=phases[0][0],
            voltage_2_v=phases[1][0],
            voltage_3_v=phases[2][0],
            current_a=phases[0][1],
            current_2_a=phases[1][1],
            current_3_a=phases[2][1],
            frame_gap_ms=self._gap_ms(at_us),
            state=_state(telegram),
            gas_m3=others.get("gas_m3"),
            water_m3=others.get("water_m3"),
            heat_gj=others.get("heat_gj"),
        )
        return TelegramReading(reading if _says_something(reading) else None, tuple(warnings), time)

    def _guarded(
        self, guard: IndexGuard, value: int | None, telegram: Telegram, now_us: int | None, warnings: list[Warn]
    ) -> bool:
        """Whether an index can be true: a CRC proves it, without one it is judged by the index before."""
        if value is None:
            # Registers without a total are as good as their telegram.
            return telegram.checked or not telegram.bad_lines
        verdict = guard.judge(value, now_us, _LARGEST_CONNECTION_VA)
        if telegram.checked or verdict is Verdict.ACCEPTED:
            return True
        warnings.append(_WARN_OF_VERDICT[verdict])
        return False

    def _gap_ms(self, at_us: int | None) -> int | None:
        last_us, self._last_at_us = self._last_at_us, at_us
        if last_us is None or at_us is None or at_us < last_us:
            return None
        return min((at_us - last_us) // 1000, 2**31 - 1)

    def _new_of_others(self, telegram: Telegram) -> dict[str, float]:
        newest: dict[str, tuple[str, str, float]] = {}
        for field, taken_at, text, value in _others(telegram):
            # After an exchange the old meter stays on its channel, with its old time.
            if field not in newest or taken_at > newest[field][0]:
                newest[field] = (taken_at, text, value)
        found = {}
        for field, (taken_at, text, value) in newest.items():
            if self._passed_on.get(field) != (taken_at, text):
                self._passed_on[field] = (taken_at, text)
                found[field] = value
        return found


def _first(telegram: Telegram, code: str) -> str:
    values = telegram.objects.get(code)
    return values[0] if values else ""


def _registers(telegram: Telegram, direction: int) -> dict[int, int]:
    return {
        number: index
        for number in range(1, 11)
        if (index := watt_hours(_first(telegram, f"1-0:{direction}.8.{number}"))) is not None
    }


def _index(telegram: Telegram, direction: int, registers: dict[int, int]) -> int | None:
    """The total the meter gives, else the sum of its tariffs; none of a telegram that may have lost one of them."""
    total = watt_hours(_first(telegram, f"1-0:{direction}.8.0"))
    if total is not None:
        return total
    if not registers or (telegram.bad_lines and not telegram.checked):
        return None
    return min(sum(registers.values()), LARGEST_COUNTER)


def _power(telegram: Telegram) -> float | None:
    """+ drawn, - injected: of the whole connection, else of its phases."""

    def watts(code: int) -> Decimal | None:
        return quantity(_first(telegram, f"1-0:{code}.7.0"), WATTS)

    signed = _difference(watts(1), watts(2))
    if signed is None:
        # Many German meters give the signed sum only.
        signed = watts(16)
    if signed is None:
        phases = [_difference(watts(drawn), watts(injected)) for drawn, injected, _, _ in _PHASES]
        known = [phase for phase in phases if phase is not None]
        signed = sum(known, Decimal(0)) if known else None
    return float(signed) if signed is not None and abs(signed) <= _LARGEST_POWER_W else None


def _difference(drawn: Decimal | None, injected: Decimal | None) -> Decimal | None:
    if drawn is None:
        # Injection alone says the whole only when it is not 0: otherwise something was drawn, unknown how much.
        return -injected if injected else None
    return drawn - (injected or 0)


def _phase(telegram: Telegram, voltage: int, current: int) -> tuple[float | None, float | None]:
    return (
        bounded(_first(telegram, f"1-0:{voltage}.7.0"), VOLTS, 0, 1000),
        bounded(_first(telegram, f"1-0:{current}.7.0"), AMPERES, -10_000, 10_000),
    )


def _running(telegram: Telegram) -> int | None:
    text = _first(telegram, "0-0:96.14.0")
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
    return number if 1 <= number <= 10 else None


def _state(telegram: Telegram) -> int:
    state = StateBit(0)
    if telegram.bad_lines:
        state |= StateBit.METER_LINK_BAD
    # 1 connected, 0 disconnected, 2 ready to be connected again by the customer.
    if _first(telegram, "0-0:96.3.10") in ("0", "2"):
        state |= StateBit.BREAKER_OPEN
    return int(state)


def _others(telegram: Telegram) -> Iterator[tuple[str, str, str, float]]:
    """Field, time of its own, text and value of each meter that the meter passes on."""
    for channel in _CHANNELS:
        kind = _first(telegram, f"0-{channel}:24.1.0")
        field, factors = _PASSED_ON.get(int(kind) if kind.isascii() and kind.isdigit() else 0, ("", None))
        if factors is None:
            continue
        for taken_at, text in _values_of_channel(telegram, channel):
            value = bounded(text, factors, 0, 1e9)
            if value is not None:
                yield field, taken_at, text, value


def _values_of_channel(telegram: Telegram, channel: int) -> Iterator[tuple[str, str]]:
    """As `(time)(value*unit)` (24.2.1; 24.2.3 where the volume is not corrected), or in the way of DSMR 2 and 3."""
    for code in ("24.2.1", "24.2.3"):
        values = telegram.objects.get(f"0-{channel}:{code}", ())
        if len(values) >= 2:
            yield values[0], values[-1]
    old = telegram.objects.get(f"0-{channel}:24.3.0", ())
    if len(old) >= 3:
        yield old[0], f"{old[-1]}*{old[-2]}"


def _says_something(reading: Reading) -> bool:
    beside: set[str] = {"time_ms", "register", "frame_gap_ms", "state"}
    return any(getattr(reading, name) is not None for name in Reading.__struct_fields__ if name not in beside)


_COUNTRIES: tuple[tuple[str, Callable[[Telegram], bool]], ...] = (
    ("Belgium: tariff 1 is the day, 2 the night", lambda telegram: "0-0:96.1.4" in telegram.objects),
    ("Germany, push telegram", lambda telegram: "1-0:0.0.0" in telegram.objects or not _is_p1(telegram)),
    ("Austria or Luxembourg", lambda telegram: "1-0:1.8.0" in telegram.objects),
    ("Netherlands: tariff 1 is the low one, 2 the normal one", lambda telegram: "1-0:1.8.1" in telegram.objects),
)


def _is_p1(telegram: Telegram) -> bool:
    return "1-3:0.2.8" in telegram.objects or "0-0:96.1.1" in telegram.objects


def meter_facts(telegram: Telegram) -> dict[str, str]:
    """What a telegram says of the meter and its tariffs, for people; nothing personal."""
    version = _first(telegram, "1-3:0.2.8") or _first(telegram, "0-0:96.1.4")
    passed_on = {field.partition("_")[0] for field, *_ in _others(telegram)}
    said = {
        "meter": telegram.identification,
        "version": version,
        "tariffs": next((text for text, holds in _COUNTRIES if holds(telegram)), ""),
        "phases": "3" if any(f"1-0:{code}.7.0" in telegram.objects for code in (41, 52, 51)) else "",
        "passes on": ", ".join(sorted(passed_on)),
        "proof": "CRC" if telegram.checked else "no CRC",
    }
    return {name: text for name, text in said.items() if text}
