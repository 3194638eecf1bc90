"""teleinfo2mqtt: the groups of a frame as JSON, `{"PAPP": {"raw": "04110", "value": 4110}}`, on `teleinfo/<number>`.

The number in the topic is the meter's own (ADCO, ADSC), which names a home: it does not become part of an id.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from app.domain.linky import TicMode
from app.protocol.foreign import Facts
from app.protocol.tic.labels import LABELS, LABELS_OF_MODE, METER_ID_LABELS
from app.protocol.tic_values import READ_LABELS, label_data

_METER_NUMBER = re.compile(r"[0-9]{10,14}\Z", re.ASCII)
_MAX_LABELS = 128
_STANDARD = frozenset(LABELS_OF_MODE[TicMode.STANDARD])


def is_teleinfo(message: Mapping[str, Any]) -> bool:
    """Whether a JSON message is a frame of teleinfo2mqtt, by its form."""
    return 0 < len(message) <= _MAX_LABELS and any(
        key in LABELS and isinstance(group, dict) and "raw" in group for key, group in message.items()
    )


def labels_of(message: Mapping[str, Any]) -> dict[str, str]:
    """The labels with their data as the meter sent them."""
    found: dict[str, str] = {}
    for label, group in message.items():
        if label not in READ_LABELS or not isinstance(group, dict):
            continue
        data = label_data(label, group.get("raw"))
        if data is None:
            data = label_data(label, group.get("value"))
        if data is not None:
            found[label] = data
    return found


def time_ms_of(message: Mapping[str, Any]) -> int | None:
    """The meter's time; standard mode alone has one."""
    date = message.get("DATE")
    stamp = date.get("timestamp") if isinstance(date, dict) else None
    text = stamp.get("date") if isinstance(stamp, dict) else None
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None or moment.year < 2000:
        return None
    return int(moment.timestamp() * 1000)


def facts_of(message: Mapping[str, Any]) -> Facts:
    """What a message says of the device."""
    serial = None
    for label in METER_ID_LABELS:
        group = message.get(label)
        raw = group.get("raw") if isinstance(group, dict) else None
        if isinstance(raw, str) and _METER_NUMBER.match(raw):
            serial = raw
    mode = TicMode.STANDARD if any(label in _STANDARD for label in message) else TicMode.HISTORIQUE
    return Facts(model="teleinfo2mqtt", meter_kind=f"linky-{mode}", meter_serial=serial)


def is_meter_number(text: str) -> bool:
    """Whether a topic level or an identifier is the number of a meter."""
    return _METER_NUMBER.match(text) is not None


def device_of(number: str) -> str:
    """The id of the device that reads the meter of this number."""
    return "linky-" + hashlib.sha256(number.encode()).hexdigest()[:12]
