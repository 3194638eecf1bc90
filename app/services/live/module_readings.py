"""One module's readings as they come, for those who hold a grant for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from app.ingest.columns import Columns
from app.ingest.directory import ModuleDirectory
from app.protocol.live import LiveReading, module_topic

_WHOLE = ("drawn_wh", "register", "rssi_dbm", "frame_gap_ms", "seq")
_FRACTIONS = ("voltage_v", "current_a")
_encode = msgspec.json.Encoder().encode


class ModuleReadings:
    """An observer of ingest; on the loop. Costs one comparison a chunk while nobody listens.

    Ingest shows only readings that are kept and whose consent covers single seconds.
    """

    def __init__(self, modules: ModuleDirectory) -> None:
        # Sends a payload to a topic.
        self.publish: Callable[[str, bytes], object] = lambda _topic, _payload: None
        self._modules = modules
        self._wanted: npt.NDArray[np.intp] = np.zeros(0, np.intp)

    def want(self, serials: Iterable[str]) -> None:
        """From now on send these modules' readings; those that are not known are passed over."""
        slots = [slot for serial in serials if (slot := self._modules.slot(serial)) is not None]
        self._wanted = np.array(sorted(slots), np.intp)

    def observe(self, columns: Columns, kept: npt.NDArray[np.bool_]) -> None:
        """Take the kept readings of a chunk."""
        if not len(self._wanted):
            return
        rows = np.flatnonzero(kept & np.isin(columns.slots, self._wanted))
        by_slot: dict[int, list[LiveReading]] = {}
        for row in rows.tolist():
            by_slot.setdefault(int(columns.slots[row]), []).append(_reading(columns, row))
        for slot, readings in by_slot.items():
            self.publish(module_topic(self._modules.serial(slot)), _encode(readings))


def _reading(columns: Columns, row: int) -> LiveReading:
    said: dict[str, Any] = {name: columns.nullable[name][row].as_py() for name in _WHOLE}
    for name in _FRACTIONS:
        value = columns.nullable[name][row].as_py()
        said[name] = None if value is None else _plain(value)
    if columns.power_kind[row]:
        said["power"] = _plain(columns.power[row])
        said["power_kind"] = int(columns.power_kind[row])
    return LiveReading(
        time_us=int(columns.time_us[row]),
        arrival_us=int(columns.arrival_us[row]),
        state=int(columns.state[row]),
        resent=bool(columns.resent[row]),
        **said,
    )


def _plain(value: float) -> float:
    """A float32 as the module wrote it: 231.4, not 231.39999389648438."""
    return float(str(np.float32(value)))
