"""Readings from labels of a Linky's customer output that arrive as values: in JSON or one a topic, not as a frame.

Gateways (ZLinky, teleinfo2mqtt, TICMeter, ESPHome) pass on what the meter said under the meter's labels or under names
of their own for them. Made into a frame again, they mean what they mean in a frame: registers by contract, injection
against drawing, the status register. VA stay VA.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from app.domain.linky import TicMode
from app.domain.reading import Reading
from app.protocol.tic.frames import Frame
from app.protocol.tic.groups import Group
from app.protocol.tic.labels import LABELS, LABELS_OF_MODE, Form
from app.protocol.tic.readings import ReadingMaker

_HEX = re.compile(r"[0-9A-Fa-f]{8}\Z", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,20}\Z", re.ASCII)
# Gateways trim the dots that fill these.
_DOTTED = frozenset({"OPTARIF", "PTEC"})
# What sets a state bit; without any of them nothing is known of the meter's state.
_STATE_LABELS = frozenset({"STGE", "ADPS", "ADIR1", "ADIR2", "ADIR3"})
# What a reading takes from a frame; other labels are not worth a place in it.
READ_LABELS = frozenset(
    {
        "OPTARIF", "PTEC", "BASE", "HCHC", "HCHP", "EJPHN", "EJPHPM",
        "BBRHCJB", "BBRHPJB", "BBRHCJW", "BBRHPJW", "BBRHCJR", "BBRHPJR",
        "IINST", "IINST1", "IINST2", "IINST3", "PAPP", "ADPS", "ADIR1", "ADIR2", "ADIR3",
        "EAST", "EAIT", *(f"EASF{number:02}" for number in range(1, 11)), "NTARF", "STGE",
        "IRMS1", "IRMS2", "IRMS3", "URMS1", "URMS2", "URMS3", "SINSTS", "SINSTI", "PREF", "ISOUSC",
    }
)  # fmt: skip


def label_data(label: str, value: object) -> str | None:
    """A value as the data of a label's group, None when it can not be that."""
    form = LABELS.get(label)
    if form is None or isinstance(value, bool) or value is None:
        return None
    if form.form is Form.DIGITS:
        return _digits(value, form.length)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if form.form is Form.HEX:
        return text if form.length != 8 or _HEX.match(text) else None
    if label in _DOTTED and text:
        text = text.ljust(form.length, ".")
    return text if 0 < len(text) <= form.length else None


def _digits(value: object, length: int) -> str | None:
    if isinstance(value, str):
        text = value.strip()
        if not _DIGITS.match(text):
            return None
        number = int(text)
    elif isinstance(value, int):
        number = value
    elif isinstance(value, float) and abs(value) < 1e15:
        number = round(value)
    else:
        return None
    return str(number).zfill(length) if 0 <= number < 10**length else None


def read_labels(
    maker: ReadingMaker, data: Mapping[str, str], *, time_ms: int | None = None, exact: bool = False
) -> Reading | None:
    """The reading of labels with their data, None when they say nothing.

    `exact` says that the indexes are the meter's own Wh and `time_ms` its time, so that jumps can be told; rounded
    indexes only ever seem to jump.
    """
    standard = any(label in LABELS_OF_MODE[TicMode.STANDARD] for label in data)
    mode = TicMode.STANDARD if standard else TicMode.HISTORIQUE
    groups = {label: Group(label, text, None, mode, 0) for label, text in data.items() if label in LABELS_OF_MODE[mode]}
    frame = Frame(groups, bad=(), repeated=(), began=True, ended=True)
    made = maker.read(frame, time_ms * 1000 if exact and time_ms is not None else None).reading
    if made is None:
        return None
    return msgspec.structs.replace(
        made,
        time_ms=time_ms,
        # What lies between two messages is the gateway's period, no gap of the meter link.
        frame_gap_ms=None,
        state=made.state if not _STATE_LABELS.isdisjoint(groups) else None,
    )
