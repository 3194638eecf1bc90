"""Who lives there: moved out, moved in."""

from __future__ import annotations

from collections.abc import Mapping

from device_sim.faults.fault import Fault, Target, Undo, Value
from device_sim.modules.power import EmptyHome, SimpleHome


def _move_out(target: Target, words: Mapping[str, Value]) -> Undo:
    """The end is somebody else who moves in: the home is lived in again, in another way."""
    del words
    for module in target.modules:
        module.meter.source = EmptyHome()

    def undo() -> None:
        for module in target.modules:
            module.meter.source = SimpleHome((module.serial, "moved in", module.seq))

    return undo


def _move_in(target: Target, words: Mapping[str, Value]) -> Undo:
    del words
    for module in target.modules:
        module.meter.source = SimpleHome((module.serial, "moved in", module.seq))

    def undo() -> None:
        """They stay."""

    return undo


MOVED_OUT = Fault(
    "moved_out",
    "power falls to a few VA and stays; meter and index are the same. At its end somebody else moves in",
    _move_out,
)
MOVED_IN = Fault("moved_in", "power takes another shape; meter and index are the same", _move_in)
