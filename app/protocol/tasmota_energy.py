"""Readings of Tasmota's ENERGY section, and of METER, CONTRACT and ALERT of the Teleinfo fork by Nicolas Bernaerts."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain.linky import REGISTER_OF_PERIOD
from app.domain.reading import LARGEST_COUNTER, Reading, StateBit
from app.protocol.tasmota_json import Section, by_phase, number, section, total, whole

LARGEST_POWER = 1e6
_LARGEST_KWH = LARGEST_COUNTER / 1000
_LARGEST_VOLTAGE = 1000
_LARGEST_CURRENT = 10_000
_MOST_REGISTERS = 10

# The periods of a standard contract in the fork, in the order of the supplier's registers.
_STANDARD_PERIODS = {
    "BASE": 1,
    "HEURE CREUSE": 1,
    "HEURE PLEINE": 2,
    "HEURE NORMALE": 1,
    "HEURE POINTE": 2,
    "HC BLEU": 1,
    "HP BLEU": 2,
    "HC BLANC": 3,
    "HP BLANC": 4,
    "HC ROUGE": 5,
    "HP ROUGE": 6,
}
_REGISTER_OF_CODE = REGISTER_OF_PERIOD | _STANDARD_PERIODS
_TEMPO_COLOURS = {"Bleu": 0, "Blanc": 2, "Rouge": 4}
_HOURS = {"HC": 1, "HP": 2, "Creuse": 1, "Pleine": 2}
# What CONTRACT says besides the index of each period.
_CONTRACT_WORDS = frozenset(
    {"serial", "name", "period", "profile", "color", "hour", "tday", "tmrw", "today", "tomorrow", "CONSO", "PROD"}
)


def is_historique(message: Section) -> bool:
    """Whether CONTRACT names periods of the historique mode, in which no meter says its voltage."""
    return any(code in REGISTER_OF_PERIOD for code in section(message.get("CONTRACT")))


def energy_reading(energy: Section, *, of_teleinfo: bool) -> Reading | None:
    """The reading of an ENERGY section, None when it has no number of use.

    The official Teleinfo driver puts the meter's VA into Power, and counts a Total of its own that is not the meter's
    index (9,098 kWh where the indexes say 3,196): of it neither is taken for what the key says.
    """
    power = total(energy.get("Power"), -LARGEST_POWER, LARGEST_POWER)
    apparent = total(energy.get("ApparentPower"), -LARGEST_POWER, LARGEST_POWER)
    drawn = injected = None
    if of_teleinfo:
        power, apparent = None, power
    else:
        # Total, Today and Yesterday are kWh; Period, in Wh, is what came since the last message and no index.
        drawn = _wh(energy.get("Total"))
        injected = _wh(energy.get("ExportActive"))
    voltages = _three(by_phase(energy.get("Voltage"), 0, _LARGEST_VOLTAGE))
    currents = _three(by_phase(energy.get("Current"), -_LARGEST_CURRENT, _LARGEST_CURRENT))
    return _reading(
        active_w=power,
        apparent_va=apparent,
        drawn_wh=drawn,
        injected_wh=injected,
        voltages=voltages,
        currents=currents,
    )


def meter_reading(message: Section, *, measures_voltage: bool = True) -> Reading | None:
    """The reading of METER and CONTRACT, one or both, None without a number of use.

    P is VA and W is watts, which this firmware derives from the growth of the indexes; both are kept apart. PP and PW
    are what is produced: a meter gives one direction at a time, so that they count against the drawn power. In the
    historique mode the firmware writes 230 V for want of a voltage, which is left out unless `measures_voltage`.
    """
    meter = section(message.get("METER"))
    contract = section(message.get("CONTRACT"))
    registers, register = _registers(contract)
    currents = [_current(meter, phase) for phase in ("I1", "I2", "I3")]
    if currents[0] is None and currents[1] is None:
        currents[0] = _current(meter, "I")
    return _reading(
        active_w=_net(meter, "W", "PW"),
        apparent_va=_net(meter, "P", "PP"),
        drawn_wh=whole(contract.get("CONSO"), 0, LARGEST_COUNTER),
        injected_wh=whole(contract.get("PROD"), 0, LARGEST_COUNTER),
        registers_wh=registers,
        register=register,
        voltages=[
            number(meter.get(phase), 0, _LARGEST_VOLTAGE) if measures_voltage else None for phase in ("U1", "U2", "U3")
        ],
        currents=currents,
        state=_alerts(section(message.get("ALERT"))) if "ALERT" in message else None,
    )


def _reading(
    *,
    active_w: float | None,
    apparent_va: float | None,
    drawn_wh: int | None,
    injected_wh: int | None,
    voltages: list[int | float | None],
    currents: list[int | float | None],
    registers_wh: dict[int, int] | None = None,
    register: int | None = None,
    state: int | None = None,
) -> Reading | None:
    measured = (active_w, apparent_va, drawn_wh, injected_wh, registers_wh, *voltages, *currents)
    if all(value is None for value in measured):
        return None
    return Reading(
        active_w=active_w,
        apparent_va=apparent_va,
        drawn_wh=drawn_wh,
        injected_wh=injected_wh,
        register=register,
        registers_wh=registers_wh,
        voltage_v=voltages[0],
        voltage_2_v=voltages[1],
        voltage_3_v=voltages[2],
        current_a=currents[0],
        current_2_a=currents[1],
        current_3_a=currents[2],
        state=state,
    )


def _wh(kwh: object) -> int | None:
    """Wh of kWh, or of the sum of a value for each phase."""
    found = total(kwh, 0, _LARGEST_KWH)
    return None if found is None else round(found * 1000)


def _three(values: Iterable[int | float | None]) -> list[int | float | None]:
    return [*values, None, None, None][:3]


def _current(meter: Section, key: str) -> int | float | None:
    return number(meter.get(key), -_LARGEST_CURRENT, _LARGEST_CURRENT)


def _net(meter: Section, drawn_key: str, produced_key: str) -> int | float | None:
    drawn = number(meter.get(drawn_key), 0, LARGEST_POWER)
    produced = number(meter.get(produced_key), 0, LARGEST_POWER)
    if drawn is None:
        # Production alone says the whole only when it is not 0: otherwise something was drawn, unknown how much.
        return -produced if produced else None
    return drawn - (produced or 0)


def _registers(contract: Section) -> tuple[dict[int, int] | None, int | None]:
    """The indexes of the periods by register, and the running register."""
    codes = [key for key in contract if key not in _CONTRACT_WORDS][: 2 * _MOST_REGISTERS]
    by_place = not any(code in _REGISTER_OF_CODE for code in codes)
    registers: dict[int, int] = {}
    for place, code in enumerate(codes, start=1):
        register = place if by_place else _REGISTER_OF_CODE.get(code)
        index = whole(contract[code], 0, LARGEST_COUNTER)
        if register is not None and register <= _MOST_REGISTERS and index is not None:
            registers[register] = index
    # Periods of a contract we have no names for are in the order of the registers, where their sum shows that none is
    # left out, as older firmware does with the empty ones.
    if by_place and sum(registers.values()) != whole(contract.get("CONSO"), 0, LARGEST_COUNTER):
        return None, None
    return registers or None, _running(contract, codes, by_place=by_place)


def _running(contract: Section, codes: list[str], *, by_place: bool) -> int | None:
    """The running register: by the period when that is a code, else by hour and colour."""
    period = contract.get("period")
    if isinstance(period, str) and period in codes:
        place = codes.index(period) + 1
        return (place if place <= _MOST_REGISTERS else None) if by_place else _REGISTER_OF_CODE.get(period)
    if codes in (["TH.."], ["BASE"]):
        return 1
    hour, colour = contract.get("hour"), contract.get("color")
    if by_place or not isinstance(hour, str) or not isinstance(colour, str) or hour not in _HOURS:
        return None
    if codes in (["HC..", "HP.."], ["HEURE CREUSE", "HEURE PLEINE"]):
        return _HOURS[hour]
    if len(codes) == 6 and colour in _TEMPO_COLOURS:
        return _TEMPO_COLOURS[colour] + _HOURS[hour]
    return None


def _alerts(alert: Section) -> int:
    """State bits of the alerts; older firmware writes 1 and 0 under a capital letter."""
    state = StateBit(0)
    load = alert.get("load", alert.get("Load"))
    # MAX1 to MAX3 are above a percentage that the owner set, not above the subscription.
    if load == 1 or (isinstance(load, str) and load and not load.startswith("MAX") and load != "0"):
        state |= StateBit.OVER_POWER
    volt = alert.get("volt", alert.get("Volt"))
    volts = number(volt, 0, _LARGEST_VOLTAGE)
    # A measured voltage stands here when it is 10 % too high or too low.
    if volt in (1, "STGE") or (volts is not None and volts > 240):
        state |= StateBit.OVER_VOLTAGE
    return int(state)
