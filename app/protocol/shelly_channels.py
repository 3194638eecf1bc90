"""Measuring channels of Shelly Gen2 and later: status objects, whole or partial, to readings."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.reading import Reading
from app.protocol.codec import Reason
from app.protocol.foreign import Refusal
from app.protocol.shelly_values import CURRENT, ENERGY, POWER, VOLTAGE, is_number

_PHASES = ("a", "b", "c")
_PER_PHASE = {"voltage": VOLTAGE, "current": CURRENT, "act_power": POWER, "aprt_power": POWER}
_INDEXES = ("total_act", "total_act_ret", "total_act_energy", "total_act_ret_energy")
# Every key that is used of em, emdata, em1 and em1data; their names do not overlap in meaning.
_BOUNDS: Mapping[str, tuple[float, float]] = {
    **_PER_PHASE,
    **{f"{phase}_{name}": bounds for phase in _PHASES for name, bounds in _PER_PHASE.items()},
    "total_act_power": POWER,
    "total_aprt_power": POWER,
    **dict.fromkeys(_INDEXES, ENERGY),
    **{f"{phase}_{name}": ENERGY for phase in _PHASES for name in _INDEXES[2:]},
}
_POWERS = frozenset(name for name in _BOUNDS if name.endswith("_power"))


class Channel:
    """What is known of one channel: the last value of each key, as partial messages overlay it."""

    __slots__ = ("_has_news", "_values")

    def __init__(self) -> None:
        self._values: dict[str, float] = {}
        self._has_news = False

    def clear(self) -> None:
        """Forget the values: a whole status follows, or the device was away."""
        self._values.clear()
        self._has_news = False

    def overlay(self, component: Mapping[str, object]) -> Refusal | None:
        """Take the keys that are there; null is unknown from now on. The first unusable value is told."""
        refusal = None
        for name in _BOUNDS.keys() & component.keys():
            value = component[name]
            if is_number(value, _BOUNDS[name]):
                self._values[name] = float(value)  # type: ignore[arg-type]
                self._has_news = self._has_news or _BOUNDS[name] is ENERGY
                continue
            self._values.pop(name, None)
            if value is not None:
                is_kind = type(value) in {int, float}
                refusal = Refusal(Reason.RANGE if is_kind else Reason.TYPE, f"{name} is not usable")
        return refusal

    def reading(self, component: Mapping[str, object], time_ms: int | None, rssi_dbm: int | None) -> Reading | None:
        """The reading of a message that brought a power; an index joins the first one after it came, once.

        Not every one: an index comes once a minute and a power each second, and a reading says what was so then.
        """
        if not _POWERS & component.keys():
            return None
        values = self._values
        active_w, apparent_va = self._power(component, "act_power"), self._power(component, "aprt_power")
        if active_w is None and apparent_va is None:
            return None
        first = "" if "act_power" in component or "aprt_power" in component else "a_"
        drawn_wh, injected_wh = (self._index("act"), self._index("act_ret")) if self._has_news else (None, None)
        self._has_news = False
        return Reading(
            time_ms=time_ms,
            active_w=active_w,
            apparent_va=apparent_va,
            drawn_wh=drawn_wh,
            injected_wh=injected_wh,
            voltage_v=values.get(f"{first}voltage"),
            current_a=values.get(f"{first}current"),
            voltage_2_v=values.get("b_voltage"),
            current_2_a=values.get("b_current"),
            voltage_3_v=values.get("c_voltage"),
            current_3_a=values.get("c_current"),
            rssi_dbm=rssi_dbm,
        )

    def _power(self, component: Mapping[str, object], name: str) -> float | None:
        """The power of the message: the total it brought, else of all phases when it brought one of them."""
        for whole in (name, f"total_{name}"):
            if whole in component:
                return self._values.get(whole)
        if any(f"{phase}_{name}" in component for phase in _PHASES):
            return self._sum(name)
        return None

    def _index(self, name: str) -> int | None:
        value = self._values.get(f"total_{name}", self._values.get(f"total_{name}_energy"))
        if value is None:
            value = self._sum(f"total_{name}_energy")
        return None if value is None else int(value)

    def _sum(self, name: str) -> float | None:
        # A sum without one of the phases would look like a lower consumption.
        values = [self._values.get(f"{phase}_{name}") for phase in _PHASES]
        total = sum(value for value in values if value is not None)
        bounds = _BOUNDS[f"a_{name}"]
        return total if None not in values and bounds[0] <= total <= bounds[1] else None
