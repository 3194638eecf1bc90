"""What an entity of Home Assistant's discovery measures: by its unit first, then by the labels and words in its names.

The unit decides the quantity: VA are never W or kWh, whatever the device class says (teleinfo2mqtt gives PAPP in VA the
class `power`). A label of a Linky's customer output in a name decides more: PAPP is VA even where a user wrote W.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterable, Mapping, Sequence

from app.protocol.home_assistant_config import EntityConfig
from app.protocol.tic.labels import LABELS
from app.protocol.tic_values import READ_LABELS

# Unit -> the quantity's Home Assistant class and the factor to our unit (Wh, W, VA, A, V, dBm).
_UNITS: Mapping[str, tuple[str, float]] = {
    "Wh": ("energy", 1),
    "kWh": ("energy", 1e3),
    "MWh": ("energy", 1e6),
    "mW": ("power", 1e-3),
    "W": ("power", 1),
    "kW": ("power", 1e3),
    "MW": ("power", 1e6),
    "VA": ("apparent_power", 1),
    "kVA": ("apparent_power", 1e3),
    "mA": ("current", 1e-3),
    "A": ("current", 1),
    "mV": ("voltage", 1e-3),
    "V": ("voltage", 1),
    "dBm": ("signal_strength", 1),
}
# Classes under which a unit is believed, besides its own and none at all.
_ALSO = {"apparent_power": frozenset({"power"})}

_INDEX_LABELS = frozenset(
    label for label in READ_LABELS if LABELS[label].length == 9 and label not in {"OPTARIF", "PTEC"}
)
_APPARENT_LABELS = frozenset({"PAPP", "SINSTS", "SINSTI"})
_VOLTAGE_LABELS = frozenset({"URMS1", "URMS2", "URMS3"})
_CURRENT_LABELS = frozenset({"IINST", "IINST1", "IINST2", "IINST3", "IRMS1", "IRMS2", "IRMS3"})
_TEXT_LABELS = frozenset({"OPTARIF", "PTEC", "NTARF", "STGE"})
# Label -> the quantities under which it is taken.
_QUANTITIES_OF_LABEL: dict[str, frozenset[str]] = {
    **dict.fromkeys(_INDEX_LABELS, frozenset({"energy"})),
    **dict.fromkeys(_APPARENT_LABELS, frozenset({"apparent_power", "power"})),
    **dict.fromkeys(_VOLTAGE_LABELS, frozenset({"voltage"})),
    **dict.fromkeys(_CURRENT_LABELS, frozenset({"current"})),
    **dict.fromkeys(_TEXT_LABELS, frozenset({""})),
}
# Labels that are words as well: believed as the whole of a name, or at its end beside other labels of a Linky.
_WORDS = frozenset({"BASE", "EAST", "DATE", "MSG1", "MSG2", "DEMAIN", "RELAIS"})
# Labels we know and do not read: maxima, load-curve points, means, the distributor's registers, subscriptions.
_STRONG_LABELS = frozenset(LABELS) - _WORDS
# The names that Zigbee2MQTT has for them in the JSON of a ZLinky, in a template.
_LABEL_OF_KEY = {
    "current_summ_delivered": "EAST",
    "current_summ_received": "EAIT",
    **{f"current_tier{number}_summ_delivered": f"EASF{number:02}" for number in range(1, 11)},
    **{f"active_ener{letter}y_out_d0{number}": f"EASD0{number}" for letter in "gf" for number in range(1, 5)},
}
_SPLIT = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", re.ASCII)

_INJECTED = frozenset(
    {
        "injected", "injection", "export", "exported", "returned", "return", "produced", "production",
        "generated", "generation", "feed",
    }
)  # fmt: skip
# What is no reading of now, or no total: such an entity is left out rather than taken for one.
_NOT_AN_INDEX = frozenset(
    {
        "today", "yesterday", "daily", "day", "week", "weekly", "month", "monthly", "year", "yearly", "annual",
        "hour", "hourly", "last", "previous", "period", "tday", "yday", "cost", "battery", "gas", "heat",
        "water", "reactive", "saved", "remaining", "forecast", "solar", "pv",
    }
)  # fmt: skip
_NOT_NOW = frozenset(
    {
        "max", "maximum", "min", "minimum", "peak", "avg", "average", "mean", "limit", "threshold", "rated",
        "nominal", "subscribed", "available", "reference", "factor", "reactive", "setpoint", "target",
        "battery", "yesterday", "today", "last", "previous", "forecast", "curve", "overload", "protection",
        "supply", "chip", "vcc", "internal", "solar", "pv",
    }
)  # fmt: skip
_PHASE = re.compile(r"(?:l|ph|phase|line|u|v|i|p)([123])\Z", re.ASCII)
_PHASE_LETTER = re.compile(r"(?:ph|phase)([abc])\Z", re.ASCII)
_REGISTER = re.compile(r"(?:t|tier|rate|tariff|tarif)(\d{1,2})\Z", re.ASCII)
_REGISTER_WORDS = frozenset({"tier", "rate", "tariff", "tarif"})


class Kind(enum.Enum):
    """How a value is used."""

    # Data of a label of the customer output.
    LABEL = "label"
    # A field of a reading.
    FIELD = "field"
    # One register of registers_wh.
    REGISTER = "register"
    # Something of the device: a field of Facts.
    FACT = "fact"


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """What an entity's value is: `name` a label, field or fact; `number` a register or phase (0 for none)."""

    kind: Kind
    name: str
    factor: float = 1
    number: int = 0
    # Of several for one field the lowest alone is taken; none when they are equal.
    rank: int = 0


_FIELDS = {"energy": "drawn_wh", "power": "active_w", "apparent_power": "apparent_va"}
_PHASED = {
    "voltage": ("voltage_v", "voltage_v", "voltage_2_v", "voltage_3_v"),
    "current": ("current_a", "current_a", "current_2_a", "current_3_a"),
}
# Quantities that make a device a meter; a thermometer with a battery's voltage is none.
METERING_FIELDS = frozenset({"drawn_wh", "injected_wh", "active_w", "apparent_va", "current_a", "current_2_a"})


def uses_of(entities: Mapping[str, EntityConfig]) -> dict[str, Use]:
    """What each of a device's entities is used for, under the same keys; those that are not used are left out.

    All of a device are judged together: which of several energies is the total, and whether it is a Linky at all.
    """
    linky = any(_strong_label(entity) is not None for entity in entities.values())
    uses = {key: use for key, entity in entities.items() if (use := _use(entity, linky=linky)) is not None}
    return _one_for_each(uses)


def measures(entity: EntityConfig) -> bool:
    """Whether an entity, readable or not, makes its device a meter."""
    use = _use(entity, linky=False)
    return use is not None and is_metering(use)


def is_metering(use: Use) -> bool:
    """Whether a device with such an entity is a meter."""
    if use.kind is Kind.LABEL:
        return use.name not in _TEXT_LABELS
    return use.kind is Kind.REGISTER or (use.kind is Kind.FIELD and use.name in METERING_FIELDS)


def _use(entity: EntityConfig, *, linky: bool) -> Use | None:
    if entity.component != "sensor":
        return None
    quantity, factor = _quantity(entity)
    label = _strong_label(entity) or _weak_label(entity, linky=linky)
    if label is not None:
        if label in {"ADCO", "ADSC"}:
            return Use(Kind.FACT, "meter_serial") if not entity.unit else None
        if quantity in _QUANTITIES_OF_LABEL.get(label, ()):
            return Use(Kind.LABEL, label, factor)
        if label in _STRONG_LABELS:
            return None
    tokens = _tokens(entity)
    if quantity == "energy":
        return _energy_use(tokens, factor)
    if quantity in {"power", "apparent_power"}:
        return _power_use(_FIELDS[quantity], tokens, factor)
    if quantity in _PHASED:
        if not _NOT_NOW.isdisjoint(tokens):
            return None
        phase = _phase(tokens)
        return Use(Kind.FIELD, _PHASED[quantity][phase], factor, rank=_rank(tokens, quantity))
    if quantity == "signal_strength":
        return Use(Kind.FACT, "rssi_dbm")
    return _fact_use(entity, tokens)


def _quantity(entity: EntityConfig) -> tuple[str, float]:
    """The quantity by the unit, where the device class does not contradict it; "" for none of ours."""
    quantity, factor = _UNITS.get(entity.unit or "", ("", 1.0))
    if quantity and entity.device_class in {None, quantity, *_ALSO.get(quantity, ())}:
        return quantity, factor
    return ("", 1.0) if not entity.unit else ("other", 1.0)


def _energy_use(tokens: Sequence[str], factor: float) -> Use | None:
    if not _NOT_AN_INDEX.isdisjoint(tokens):
        return None
    injected = not _INJECTED.isdisjoint(tokens)
    register = _register(tokens)
    if register:
        return None if injected else Use(Kind.REGISTER, "registers_wh", factor, register)
    if _phase(tokens):
        return None
    return Use(Kind.FIELD, "injected_wh" if injected else "drawn_wh", factor, rank=_rank(tokens, "energy"))


def _power_use(field: str, tokens: Sequence[str], factor: float) -> Use | None:
    if not _NOT_NOW.isdisjoint(tokens) or not _INJECTED.isdisjoint(tokens):
        return None
    return Use(Kind.FIELD, field, factor, number=_phase(tokens), rank=_rank(tokens, "power"))


def _fact_use(entity: EntityConfig, tokens: Sequence[str]) -> Use | None:
    keys = entity.template.keys if entity.template is not None else ()
    if "linkquality" in keys or "linkquality" in tokens:
        return Use(Kind.FACT, "link_quality")
    last = tokens[-1] if tokens else ""
    if entity.unit == "s" and "uptime" in tokens:
        return Use(Kind.FACT, "uptime_s")
    if entity.unit or entity.device_class:
        return None
    if last in {"ssid", "bssid"}:
        return Use(Kind.FACT, last)
    if tokens[-2:] in (["ip", "address"], ["ip"]) or tokens[-1:] == ["ip"]:
        return Use(Kind.FACT, "ip")
    return Use(Kind.FACT, "reset_reason") if tokens[-2:] == ["reset", "reason"] else None


def _one_for_each(uses: dict[str, Use]) -> dict[str, Use]:
    best: dict[tuple[str, str, int], list[str]] = {}
    for key, use in uses.items():
        place = (use.kind.value, use.name, use.number)
        rivals = best.get(place)
        if rivals is None or use.rank < uses[rivals[0]].rank:
            best[place] = [key]
        elif use.rank == uses[rivals[0]].rank:
            rivals.append(key)
    return {keys[0]: uses[keys[0]] for keys in best.values() if len(keys) == 1}


# --- Names ----------------------------------------------------------------------------------------------------------


def _strong_label(entity: EntityConfig) -> str | None:
    """A label in the template's keys or in a name that can be nothing else."""
    for key in _keys(entity):
        if key in _LABEL_OF_KEY:
            return _LABEL_OF_KEY[key]
    for name in (*_keys(entity), *entity.names):
        for word in re.split(r"[^A-Za-z0-9+-]+", name[:200].upper()):
            if word in _STRONG_LABELS:
                return word
    return None


def _weak_label(entity: EntityConfig, *, linky: bool) -> str | None:
    for name in (*_keys(entity), *entity.names):
        upper = name[:200].upper()
        if upper in _WORDS:
            return upper
        last = re.split(r"[^A-Z0-9]+", upper)[-1]
        if linky and last in _WORDS:
            return last
    return None


def _keys(entity: EntityConfig) -> Iterable[str]:
    return entity.template.keys if entity.template is not None else ()


def _tokens(entity: EntityConfig) -> list[str]:
    """The words of the name that is most of the maker's making: the topic's or component's last level, and the name."""
    name = entity.names[0] if entity.names else ""
    words = [word.lower() for word in _SPLIT.split(name[:200]) if word]
    keys = [word.lower() for key in _keys(entity) for word in _SPLIT.split(key) if word]
    return [*words, *keys]


def _phase(tokens: Sequence[str]) -> int:
    for at, token in enumerate(tokens):
        if match := _PHASE.match(token):
            return int(match.group(1))
        if match := _PHASE_LETTER.match(token):
            return "abc".index(match.group(1)) + 1
        if token in {"ph", "phase"} and at + 1 < len(tokens):
            following = tokens[at + 1]
            if following in {"a", "b", "c"}:
                return "abc".index(following) + 1
            if following in {"1", "2", "3"}:
                return int(following)
    last = tokens[-1] if tokens else ""
    if len(tokens) > 1 and last in {"a", "b", "c"}:
        return "abc".index(last) + 1
    return int(last) if len(tokens) > 1 and last in {"1", "2", "3"} else 0


def _register(tokens: Sequence[str]) -> int:
    for at, token in enumerate(tokens):
        match = _REGISTER.match(token)
        text = match.group(1) if match else ""
        if token in _REGISTER_WORDS and at + 1 < len(tokens) and tokens[at + 1].isdecimal():
            text = tokens[at + 1]
        if text and len(text) < 3 and 1 <= int(text) <= 10:
            return int(text)
    return 0


def _rank(tokens: Sequence[str], quantity: str) -> int:
    if "total" in tokens or "sum" in tokens:
        return 0
    return 1 if tokens and tokens[-1] == quantity else 2
