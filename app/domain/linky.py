"""Facts of Linky meters and of their customer output (TIC): modes, times, contracts, the status register, serials.

Source: Enedis-NOI-CPT_54E v3 (2018), the customer output of Linky; its "historique" mode imitates older meters.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import re


class TicMode(enum.StrEnum):
    """How a meter speaks; the meter is switched by the supplier or the network operator, never by us."""

    HISTORIQUE = "historique"
    STANDARD = "standard"


BAUD = {TicMode.HISTORIQUE: 1200, TicMode.STANDARD: 9600}


# --- Time -----------------------------------------------------------------------------------------------------------

HORODATE_PATTERN = re.compile(r"[HEhe ][0-9 ]{12}\Z", re.ASCII)
# The letter says the offset to UTC: H winter (hiver), E summer (ete). France has no others.
_OFFSETS = {"h": dt.timezone(dt.timedelta(hours=1)), "e": dt.timezone(dt.timedelta(hours=2))}


@dataclasses.dataclass(frozen=True, slots=True)
class MeterTime:
    """A time by the meter's clock; `degraded` when the meter says that it lost the time at some point."""

    utc: dt.datetime
    degraded: bool

    @property
    def time_ms(self) -> int:
        """UTC milliseconds since 1970."""
        return int(self.utc.timestamp()) * 1000


def parse_horodate(text: str) -> MeterTime | None:
    """The time of a horodate `SAAMMJJhhmmss`; None when it says "not applicable" or is no time at all."""
    zone = _OFFSETS.get(text[:1].lower())
    digits = text[1:]
    if zone is None or len(digits) != 12 or not (digits.isascii() and digits.isdigit()):
        return None
    year, month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(0, 12, 2))
    try:
        local = dt.datetime(2000 + year, month, day, hour, minute, second, tzinfo=zone)
    except ValueError:
        return None
    return MeterTime(local.astimezone(dt.UTC), degraded=text[0].islower())


# --- Contracts of the historique mode -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class HistoriqueContract:
    """A contract as OPTARIF names it; `indexes[n]` is the label of the supplier's register n + 1."""

    option: str
    name: str
    indexes: tuple[str, ...]


HISTORIQUE_CONTRACTS = (
    HistoriqueContract("BASE", "Base", ("BASE",)),
    HistoriqueContract("HC..", "HC/HP", ("HCHC", "HCHP")),
    HistoriqueContract("EJP.", "EJP", ("EJPHN", "EJPHPM")),
    # The order of a standard Tempo meter's EASF01..06 (seen: NTARF 02 while LTARF says HP BLEU).
    HistoriqueContract("BBR", "Tempo", ("BBRHCJB", "BBRHPJB", "BBRHCJW", "BBRHPJW", "BBRHCJR", "BBRHPJR")),
)

# PTEC, the running period, to the register it runs on.
REGISTER_OF_PERIOD = {
    "TH..": 1,
    "HC..": 1,
    "HP..": 2,
    "HN..": 1,
    "PM..": 2,
    "HCJB": 1,
    "HPJB": 2,
    "HCJW": 3,
    "HPJW": 4,
    "HCJR": 5,
    "HPJR": 6,
}


def historique_contract(optarif: str) -> HistoriqueContract | None:
    """The contract of an OPTARIF; the fourth character of `BBRx` is a program of the load contact, not a contract."""
    for contract in HISTORIQUE_CONTRACTS:
        if optarif == contract.option or (contract.option == "BBR" and optarif.startswith("BBR")):
            return contract
    return None


# --- The status register --------------------------------------------------------------------------------------------


class Breaker(enum.IntEnum):
    """STGE bits 1 to 3: the breaker, and why it is open."""

    CLOSED = 0
    OPEN_OVER_POWER = 1
    OPEN_OVER_VOLTAGE = 2
    OPEN_SHEDDING = 3
    OPEN_BY_ORDER = 4
    OPEN_OVERHEATING_OVER_CURRENT = 5
    OPEN_OVERHEATING = 6


class Plc(enum.IntEnum):
    """STGE bits 21 and 22: the meter's own link over the power line."""

    NEW = 0
    NEW_LOCKED = 1
    REGISTERED = 2


class TempoColour(enum.IntEnum):
    """STGE bits 24 to 27: colour of a Tempo day."""

    NONE = 0
    BLUE = 1
    WHITE = 2
    RED = 3


_BREAKERS = {state.value: state for state in Breaker}
_PLC_STATES = {state.value: state for state in Plc}


@dataclasses.dataclass(frozen=True, slots=True)
class Stge:
    """The status register of a Linky. Registers count from 1; `breaker` and `plc` are None for values unknown to us."""

    raw: int
    dry_contact_open: bool
    breaker: Breaker | None
    terminal_cover_open: bool
    over_voltage: bool
    over_power: bool
    producer: bool
    injecting: bool
    supplier_register: int
    distributor_register: int
    clock_degraded: bool
    tic_standard: bool
    euridis: int
    plc: Plc | None
    plc_synchronised: bool
    tempo_today: TempoColour
    tempo_tomorrow: TempoColour
    mobile_peak_notice: int
    mobile_peak_running: int

    @property
    def breaker_open(self) -> bool:
        """Whether the breaker is open, for whichever reason."""
        return self.breaker is not Breaker.CLOSED


def decode_stge(text: str) -> Stge | None:
    """The status register from its 8 hexadecimal digits, None for anything else."""
    if not re.fullmatch(r"[0-9A-Fa-f]{8}", text, re.ASCII):
        return None
    raw = int(text, 16)

    def bits(first: int, count: int = 1) -> int:
        return raw >> first & (1 << count) - 1

    return Stge(
        raw=raw,
        dry_contact_open=bool(bits(0)),
        breaker=_BREAKERS.get(bits(1, 3)),
        terminal_cover_open=bool(bits(4)),
        over_voltage=bool(bits(6)),
        over_power=bool(bits(7)),
        producer=bool(bits(8)),
        injecting=bool(bits(9)),
        supplier_register=bits(10, 4) + 1,
        distributor_register=bits(14, 2) + 1,
        clock_degraded=bool(bits(16)),
        tic_standard=bool(bits(17)),
        euridis=bits(19, 2),
        plc=_PLC_STATES.get(bits(21, 2)),
        plc_synchronised=bool(bits(23)),
        tempo_today=TempoColour(bits(24, 2)),
        tempo_tomorrow=TempoColour(bits(26, 2)),
        mobile_peak_notice=bits(28, 2),
        mobile_peak_running=bits(30, 2),
    )


# --- The serial -----------------------------------------------------------------------------------------------------

# 2 digits maker, 2 year, 2 type, 6 number.
_SERIAL_PATTERN = re.compile(r"[0-9]{12}\Z", re.ASCII)
_SINGLE_PHASE_TYPES = frozenset({"61", "62", "64", "75"})
_THREE_PHASE_TYPES = frozenset({"63", "76"})


def phases_of_serial(serial: str) -> int | None:
    """1 or 3 by the meter type in a Linky's serial (ADSC, ADCO), None when it does not say."""
    if not _SERIAL_PATTERN.match(serial):
        return None
    if serial[4:6] in _SINGLE_PHASE_TYPES:
        return 1
    return 3 if serial[4:6] in _THREE_PHASE_TYPES else None


# --- The day profile ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class DayProfileStep:
    """One step of PJOURF+1 or PPOINTE: from `minute` of the local day on. `register` is None for "no change"."""

    minute: int
    register: int | None
    contact: str


_CONTACTS = ("unchanged", "tempo", "open", "closed")


def decode_day_profile(text: str) -> tuple[DayProfileStep, ...]:
    """The steps of a day profile, such as the customer's off-peak hours; blocks that are none are left out."""
    steps = []
    for block in text.split(" "):
        if not re.fullmatch(r"[0-9]{4}[0-9A-Fa-f]{4}", block, re.ASCII):
            continue
        hour, minute, action = int(block[:2]), int(block[2:4]), int(block[4:], 16)
        if hour > 23 or minute > 59:
            continue
        register = action & 0xF
        steps.append(
            DayProfileStep(hour * 60 + minute, register if 1 <= register <= 10 else None, _CONTACTS[action >> 14])
        )
    return tuple(steps)
