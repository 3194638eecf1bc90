"""Makes readings of a meter's frames.

What is instantaneous is apparent power, VA, never watts. Money follows the supplier's registers: EASF01..10 in standard
mode; in historique mode the contract's indexes are numbered so: BASE 1; HCHC 1, HCHP 2; EJPHN 1, EJPHPM 2; BBRHCJB,
BBRHPJB, BBRHCJW, BBRHPJW, BBRHCJR, BBRHPJR 1 to 6 (the order of a standard Tempo meter). The meter's own number and the
delivery point (PRM) are personal data and never part of a reading.
"""

from __future__ import annotations

import dataclasses
import enum

from app.domain.linky import (
    HISTORIQUE_CONTRACTS,
    REGISTER_OF_PERIOD,
    HistoriqueContract,
    MeterTime,
    TicMode,
    decode_stge,
    historique_contract,
    parse_horodate,
)
from app.domain.reading import Reading, StateBit
from app.protocol.tic.frames import Frame
from app.protocol.tic.index_guard import IndexGuard, Verdict

# When a frame does not say the reference power: the largest a Linky is made for.
LARGEST_SUBSCRIPTION_KVA = 36
_VOLTS_OF_SUBSCRIPTION = 200


class Warn(enum.StrEnum):
    """What is odd about a frame although its groups are good."""

    REGISTER_SUM = "register_sum"
    REGISTER_DISAGREES = "register_disagrees"
    INDEX_FELL = "index_fell"
    INDEX_JUMPED = "index_jumped"
    CLOCK_DEGRADED = "clock_degraded"
    DATE_INVALID = "date_invalid"
    LABEL_REPEATED = "label_repeated"
    CONTRACT_UNCLEAR = "contract_unclear"


_WARN_OF_VERDICT = {Verdict.FELL: Warn.INDEX_FELL, Verdict.JUMPED: Warn.INDEX_JUMPED}


@dataclasses.dataclass(frozen=True, slots=True)
class FrameReading:
    """A reading, None when the frame holds nothing to read (a "veille" frame), and what was odd about the frame."""

    reading: Reading | None
    warnings: tuple[Warn, ...]
    meter_time: MeterTime | None


@dataclasses.dataclass(frozen=True, slots=True)
class _Indexes:
    drawn_wh: int | None = None
    registers_wh: dict[int, int] | None = None
    register: int | None = None


class ReadingMaker:
    """Makes the readings of one meter, frame by frame; what it remembers is for checks that need the frame before."""

    def __init__(self) -> None:
        self._drawn = IndexGuard()
        self._injected = IndexGuard()
        self._last_at_us: int | None = None

    def read(self, frame: Frame, at_us: int | None = None) -> FrameReading:
        """The reading of a whole frame. `at_us` is when its last byte came, by a steady clock; None for a capture.

        The time of the reading is the meter's (standard mode), None when the meter says none.
        """
        warnings: list[Warn] = []
        if frame.repeated:
            warnings.append(Warn.LABEL_REPEATED)
        meter_time = self._time(frame, warnings)
        if frame.mode is TicMode.STANDARD:
            indexes = _standard_indexes(frame, warnings)
        else:
            indexes = _historique_indexes(frame, warnings)
        now_us = at_us if at_us is not None else meter_time.time_ms * 1000 if meter_time else None
        ceiling_va = _subscription_kva(frame) * 1000
        drawn = self._guarded(self._drawn, indexes.drawn_wh, now_us, ceiling_va, warnings)
        injected = self._guarded(self._injected, frame.number("EAIT"), now_us, ceiling_va, warnings)
        trusted = drawn is not None or indexes.drawn_wh is None
        reading = Reading(
            time_ms=meter_time.time_ms if meter_time else None,
            apparent_va=_apparent_va(frame),
            drawn_wh=drawn,
            injected_wh=injected,
            register=indexes.register,
            registers_wh=indexes.registers_wh if trusted else None,
            voltage_v=frame.number("URMS1"),
            voltage_2_v=frame.number("URMS2"),
            voltage_3_v=frame.number("URMS3"),
            current_a=_first_number(frame, "IRMS1", "IINST1", "IINST"),
            current_2_a=_first_number(frame, "IRMS2", "IINST2"),
            current_3_a=_first_number(frame, "IRMS3", "IINST3"),
            frame_gap_ms=self._gap_ms(at_us),
            state=_state(frame, meter_time),
        )
        return FrameReading(reading if _says_something(reading) else None, tuple(warnings), meter_time)

    def _time(self, frame: Frame, warnings: list[Warn]) -> MeterTime | None:
        date = frame.groups.get("DATE")
        if date is None or date.horodate is None:
            return None
        meter_time = parse_horodate(date.horodate)
        if meter_time is None and date.horodate[:1] != " ":
            warnings.append(Warn.DATE_INVALID)
        if meter_time is not None and meter_time.degraded:
            warnings.append(Warn.CLOCK_DEGRADED)
        return meter_time

    def _guarded(
        self, guard: IndexGuard, value: int | None, now_us: int | None, ceiling_va: float, warnings: list[Warn]
    ) -> int | None:
        if value is None:
            return None
        verdict = guard.judge(value, now_us, ceiling_va)
        if verdict is Verdict.ACCEPTED:
            return value
        warnings.append(_WARN_OF_VERDICT[verdict])
        return None

    def _gap_ms(self, at_us: int | None) -> int | None:
        last_us, self._last_at_us = self._last_at_us, at_us
        if last_us is None or at_us is None or at_us < last_us:
            return None
        return min((at_us - last_us) // 1000, 2**31 - 1)


def _apparent_va(frame: Frame) -> int | None:
    """+ drawn, - injected; a meter gives one of both, the other is 0."""
    drawn = _first_number(frame, "SINSTS", "PAPP")
    injected = frame.number("SINSTI")
    if drawn is None:
        # Injection alone says the whole only when it is not 0: otherwise something was drawn, unknown how much.
        return -injected if injected else None
    return drawn - (injected or 0)


def _standard_indexes(frame: Frame, warnings: list[Warn]) -> _Indexes:
    drawn = frame.number("EAST")
    registers = {
        number: index for number in range(1, 11) if (index := frame.number(f"EASF{number:02}")) is not None
    } or None
    if drawn is not None and registers is not None and len(registers) == 10 and sum(registers.values()) != drawn:
        warnings.append(Warn.REGISTER_SUM)
    register = frame.number("NTARF")
    if register is not None and not 1 <= register <= 10:
        register = None
    status = decode_stge(frame.data("STGE") or "")
    by_status = status.supplier_register if status is not None and status.supplier_register <= 10 else None
    if register is not None and by_status is not None and register != by_status:
        warnings.append(Warn.REGISTER_DISAGREES)
    return _Indexes(drawn, registers, register or by_status)


def _historique_indexes(frame: Frame, warnings: list[Warn]) -> _Indexes:
    period = frame.data("PTEC")
    register = REGISTER_OF_PERIOD.get(period) if period is not None else None
    contract = _contract_of(frame)
    if contract is None:
        if any(label in frame.groups for known in HISTORIQUE_CONTRACTS for label in known.indexes):
            warnings.append(Warn.CONTRACT_UNCLEAR)
        return _Indexes(register=register)
    registers = {
        number: index
        for number, label in enumerate(contract.indexes, start=1)
        if (index := frame.number(label)) is not None
    }
    if register is not None and register > len(contract.indexes):
        warnings.append(Warn.REGISTER_DISAGREES)
        register = None
    complete = len(registers) == len(contract.indexes)
    return _Indexes(sum(registers.values()) if complete else None, registers or None, register)


def _contract_of(frame: Frame) -> HistoriqueContract | None:
    """By OPTARIF; without it by the indexes, when they are those of one contract alone."""
    named = historique_contract(frame.data("OPTARIF") or "")
    if named is not None:
        return named
    present = [
        contract for contract in HISTORIQUE_CONTRACTS if any(label in frame.groups for label in contract.indexes)
    ]
    return present[0] if len(present) == 1 else None


def _subscription_kva(frame: Frame) -> float:
    reference = frame.number("PREF")
    if reference:
        return reference
    subscribed_a = frame.number("ISOUSC")
    if subscribed_a:
        phases = 3 if "IINST3" in frame.groups else 1
        return subscribed_a * _VOLTS_OF_SUBSCRIPTION * phases / 1000
    return LARGEST_SUBSCRIPTION_KVA


def _state(frame: Frame, meter_time: MeterTime | None) -> int:
    state = StateBit(0)
    if not frame.correct:
        state |= StateBit.METER_LINK_BAD
    if meter_time is not None and meter_time.degraded:
        state |= StateBit.METER_CLOCK_DEGRADED
    # ADPS and ADIRn are sent only while the subscribed current is exceeded.
    if not frame.groups.keys().isdisjoint(("ADPS", "ADIR1", "ADIR2", "ADIR3")):
        state |= StateBit.OVER_POWER
    status = decode_stge(frame.data("STGE") or "")
    if status is not None:
        for is_set, bit in (
            (status.dry_contact_open, StateBit.RELAY_OPEN),
            (status.breaker_open, StateBit.BREAKER_OPEN),
            (status.terminal_cover_open, StateBit.TERMINAL_COVER_OPEN),
            (status.over_voltage, StateBit.OVER_VOLTAGE),
            (status.over_power, StateBit.OVER_POWER),
            (status.clock_degraded, StateBit.METER_CLOCK_DEGRADED),
        ):
            if is_set:
                state |= bit
    return int(state)


def _first_number(frame: Frame, *labels: str) -> int | None:
    return next((number for label in labels if (number := frame.number(label)) is not None), None)


def _says_something(reading: Reading) -> bool:
    return any(
        value is not None
        for value in (
            reading.apparent_va,
            reading.drawn_wh,
            reading.injected_wh,
            reading.registers_wh,
            reading.voltage_v,
            reading.current_a,
            reading.current_2_a,
            reading.current_3_a,
        )
    )
