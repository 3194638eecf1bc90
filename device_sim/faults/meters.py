"""Meters: frozen, stuck, jumped back, exchanged."""

from __future__ import annotations

from collections.abc import Mapping

from device_sim.faults.fault import Fault, Target, Undo, Value, number


def _freeze(target: Target, words: Mapping[str, Value]) -> Undo:
    del words
    for module in target.modules:
        module.meter.frozen = True

    def undo() -> None:
        for module in target.modules:
            module.meter.frozen = False

    return undo


def _stick(target: Target, words: Mapping[str, Value]) -> Undo:
    del words
    for module in target.modules:
        module.meter.stuck = True

    def undo() -> None:
        for module in target.modules:
            module.meter.stuck = False

    return undo


def _jump_back(target: Target, words: Mapping[str, Value]) -> Undo:
    for module in target.modules:
        module.meter.jump_back(int(number(words, "wh")))
    return _nothing


def _exchange(target: Target, words: Mapping[str, Value]) -> Undo:
    del words
    for module in target.modules:
        module.exchange_meter()
    return _nothing


def _nothing() -> None:
    """A meter that was exchanged stays exchanged, an index that fell stays low."""


METER_FROZEN = Fault(
    "meter_frozen",
    "readings go on with a good `rssi_dbm` and without power and index; `frame_gap_ms` grows, after 10 s state bit 0",
    _freeze,
)
STUCK_VALUE = Fault(
    "stuck_value",
    "readings go on with a usual `frame_gap_ms`; power and `drawn_wh` stand still",
    _stick,
)
INDEX_JUMP_BACK = Fault(
    "index_jump_back",
    "`drawn_wh` falls by so much from one reading to the next and grows on from there",
    _jump_back,
    {"wh": 5000.0},
)
METER_EXCHANGED = Fault(
    "meter_exchanged",
    "a birth with another `meter_serial` under the same boot id, a warning in the log, `drawn_wh` from about 0",
    _exchange,
)
