"""A firmware that passes every check and does not work."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from device_sim.faults.fault import Fault, Target, Undo, Value
from device_sim.modules.flash import Slot
from device_sim.modules.image import NO_BOOT, NO_WIFI


def _put_in(flaw: str) -> Callable[[Target, Mapping[str, Value]], Undo]:
    def begin(target: Target, words: Mapping[str, Value]) -> Undo:
        for module in target.modules:
            module.updating.put_in(Slot(str(words["version"]), frozenset({flaw})))

        def undo() -> None:
            """A module that can goes back by itself."""

        return undo

    return begin


FIRMWARE_NO_BOOT = Fault(
    "firmware_no_boot",
    "a short silence, then a birth with the old `firmware` and `fota`, and `fota` failed, `rolled_back`",
    _put_in(NO_BOOT),
    {"version": "9.9.1"},
)
FIRMWARE_NO_WIFI = Fault(
    "firmware_no_wifi",
    "two minutes of silence, then the same",
    _put_in(NO_WIFI),
    {"version": "9.9.2"},
)
