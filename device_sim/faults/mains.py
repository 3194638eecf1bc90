"""Power: a cut, of a home or a whole district."""

from __future__ import annotations

from collections.abc import Mapping

from device_sim.faults.fault import Fault, Target, Undo, Value


def _cut(target: Target, words: Mapping[str, Value]) -> Undo:
    del words
    for module in target.modules:
        module.cut_power()

    def undo() -> None:
        for module in target.modules:
            module.restore_power()

    return undo


POWER_CUT = Fault(
    "power_cut",
    "silence without a FIN; 1.5 keep-alives later the will. Afterwards all come back at once: births with "
    "`power_on` and a new boot id, `seq` from 0, nothing resent, since the memory is gone",
    _cut,
)
