"""The meter's frames as Tasmota sends them: official Teleinfo (`TIC` in SENSOR), and the fork's raw `TIC` topic.

`EnergyConfig Changed` sends only the labels whose data changed since the frame before, so that what is known is kept
and overlaid. How labels become a reading is app.protocol.tic.readings, as for a meter on a serial port.
"""

from __future__ import annotations

from app.domain.linky import HORODATE_PATTERN, TicMode
from app.domain.reading import Reading, StateBit
from app.protocol.tasmota_json import Section
from app.protocol.tic.frames import Frame
from app.protocol.tic.groups import Group
from app.protocol.tic.labels import LABELS, LABELS_OF_MODE, METER_ID_LABELS, Form, Label
from app.protocol.tic.readings import ReadingMaker

# A message that was lost took a change with it; telemetry (at most 3,600 s apart) repeats everything.
KEPT_FOR_US = 2 * 3_600_000_000
# Sent only while a phase is over its limit, and nobody says when that ends.
_PASSING = frozenset({"ADPS", "ADIR1", "ADIR2", "ADIR3"})
# A time that was true for the frame before is not the time of this one.
_NEVER_KEPT = _PASSING | {"DATE"}


class Teleinfo:
    """The frames of one module's meter. `meter_kind` and `meter_serial` (personal) are None while unknown."""

    def __init__(self) -> None:
        self.meter_kind: str | None = None
        self.meter_serial: str | None = None
        self._mode: TicMode | None = None
        self._groups: dict[str, Group] = {}
        self._maker = ReadingMaker()
        self._last_us = 0

    def take(self, frame: Section, arrival_us: int) -> Reading | None:
        """The reading of a frame, whole or of changes; None when that and what is known give none."""
        sent = {label: group for label, value in frame.items() if (group := _group(label, value)) is not None}
        if not sent:
            return None
        if sent.keys() <= _PASSING:
            # Sent in the middle of a frame, by itself: what is known is of another moment.
            return Reading(state=int(StateBit.OVER_POWER))
        self._follow_meter(sent)
        if abs(arrival_us - self._last_us) > KEPT_FOR_US:
            self._groups.clear()
        self._last_us = arrival_us
        for label in frame.keys() - sent.keys():
            # It came, and could not be read: what it was before is not what it is now.
            self._groups.pop(label, None)
        self._groups.update((label, group) for label, group in sent.items() if label not in _NEVER_KEPT)
        whole = Frame(self._groups | sent, bad=(), repeated=(), began=True, ended=True)
        # Without a time of arrival: messages come in bursts, and what an index may grow by depends on the meter's time.
        return self._maker.read(whole).reading

    def _follow_meter(self, sent: dict[str, Group]) -> None:
        """Begin anew when the meter is another one, or was switched to the other mode."""
        mode = next(iter(sent.values())).mode
        serial = next((sent[label].data for label in METER_ID_LABELS if label in sent), self.meter_serial)
        if mode is not self._mode or serial != self.meter_serial:
            self._groups.clear()
            self._maker = ReadingMaker()
        self._mode, self.meter_serial = mode, serial
        self.meter_kind = f"linky-{mode.value}"


def _group(label: str, value: object) -> Group | None:
    """A label and its value as the meter had sent them; None for what no meter sends."""
    known = LABELS.get(label)
    if known is None or isinstance(value, bool):
        return None
    mode = TicMode.STANDARD if label in LABELS_OF_MODE[TicMode.STANDARD] else TicMode.HISTORIQUE
    if label == "DATE":
        valid = isinstance(value, str) and HORODATE_PATTERN.match(value)
        return Group(label, "", str(value), mode, 0) if valid else None
    data = _data(known, value)
    return None if data is None else Group(label, data, None, mode, 0)


def _data(label: Label, value: object) -> str | None:
    """The firmware writes whatever consists of digits as a number, without its leading zeros."""
    if isinstance(value, int):
        length = 12 if label.name in METER_ID_LABELS else label.length
        if not 0 <= value < 10**length:
            return None
        is_padded = label.form is Form.HEX or label.name in METER_ID_LABELS
        return str(value).zfill(length) if is_padded else str(value)
    if not isinstance(value, str) or not value or len(value) > label.length or not value.isprintable():
        return None
    if label.form is Form.DIGITS and not (value.isascii() and value.isdigit()):
        return None
    return value
