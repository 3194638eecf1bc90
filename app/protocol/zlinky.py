"""The LiXee ZLinky_TIC behind Zigbee2MQTT: its JSON, whose names do not say what they hold.

In standard mode `active_power` is CCASN and `active_power_ph_b` CCASN-1, points of the load curve; `reactive_power*`
are ERQ1..4; `active_power_max` is SMAXSN in VA; on three phases `apparent_power` is phase 1 alone. Indexes are kWh
rounded to 0 decimals unless the user chose more; the converter of 2021 wrote camelCase keys in Wh, and Zigbee2MQTT
keeps such keys, grown old, beside the new ones. -32768 and 65535 are no values. `site_id` (PRM) is personal: not taken.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from app.domain.linky import REGISTER_OF_PERIOD, HistoriqueContract, TicMode, historique_contract, phases_of_serial
from app.protocol.foreign import Facts
from app.protocol.tic_values import label_data

MODEL = "ZLinky_TIC"
MAKER = "LiXee"

_TIERS = {f"current_tier{number}_summ_delivered": number for number in range(1, 11)}
_ENERGIES = frozenset({"current_summ_delivered", "current_summ_received", *_TIERS})
_DISTRIBUTOR = tuple(f"active_ener{letter}y_out_d0{number}" for letter in "gf" for number in range(1, 5))
# One of these is enough to know a ZLinky by. `current_summ_delivered` alone other meters have too.
_OWN_KEYS = frozenset(
    {*_TIERS, *_DISTRIBUTOR, "active_register_tier_delivered", "current_tarif", "current_price", "current_index_tarif"}
)
_STANDARD_KEYS = frozenset(
    {*_DISTRIBUTOR, "status_register", "current_index_tarif", "current_price", "current_date", "site_id"}
)
_SENTINELS = (-32768, 65535)
# 9 digits of Wh: what a meter can show.
_LARGEST_WH = 999_999_999
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z])")
_MAX_KEYS = 400
_PHASE_KEYS = (
    "apparent_power_ph_b", "apparent_power_ph_c", "rms_current_ph_b", "rms_current_ph_c", "rms_voltage_ph_b",
    "rms_voltage_ph_c", "total_apparent_power",
)  # fmt: skip


def is_zlinky(message: Mapping[str, Any]) -> bool:
    """Whether a JSON message is of a ZLinky, by its keys."""
    return len(message) <= _MAX_KEYS and any(
        key in _OWN_KEYS or ("S" in key and _snake(key) in _OWN_KEYS) or ("O" in key and _snake(key) in _OWN_KEYS)
        for key in message
    )


def time_ms_of(message: Mapping[str, Any]) -> int | None:
    """When Zigbee2MQTT heard the device, if it was told to say so. The meter's `current_date` is read now and then
    and repeated until it is read again: it is not the time of a message.
    """
    seen = message.get("last_seen")
    if isinstance(seen, str) and len(seen) <= 40:
        try:
            moment = dt.datetime.fromisoformat(seen)
            seen = moment.timestamp() * 1000 if moment.tzinfo is not None else None
        except (ValueError, OverflowError):
            return None
    if isinstance(seen, bool) or not isinstance(seen, (int, float)) or not 0 < seen <= 253_402_300_799_999:
        return None
    return int(seen)


def facts_of(message: Mapping[str, Any], meter_kind: str | None = None) -> Facts:
    """What a message says of the device. Link quality is Zigbee's own scale and never an RSSI."""
    device = message.get("device")
    about: Mapping[str, Any] = device if isinstance(device, dict) else {}
    quality = message.get("linkquality")
    serial = _plain(message).get("meter_serial_number")
    return Facts(
        name=_text(about.get("friendlyName")),
        maker=_text(about.get("manufacturerName")) or MAKER,
        model=_text(about.get("model")) or MODEL,
        firmware=_text(about.get("softwareBuildID")),
        hardware=_text(about.get("hardwareVersion")),
        newer_firmware=_newer_firmware(message.get("update")),
        meter_kind=meter_kind,
        meter_serial=_text(serial),
        link_quality=quality if type(quality) is int and 0 <= quality <= 255 else None,
    )


def _newer_firmware(update: Any) -> str | None:
    """The version that Zigbee2MQTT offers, "" for none, None while it has not looked."""
    if not isinstance(update, dict) or update.get("state") not in ("available", "idle"):
        return None
    return _text(update.get("latest_version")) if update["state"] == "available" else ""


def ieee_address_of(message: Mapping[str, Any]) -> str | None:
    """The address of the radio, when Zigbee2MQTT was told to put its description into each message."""
    device = message.get("device")
    address = device.get("ieeeAddr") if isinstance(device, dict) else None
    return address if isinstance(address, str) and re.fullmatch(r"0x[0-9a-f]{16}", address) else None


class ZLinky:
    """What is known of one ZLinky: messages may hold no more than what changed, and the mode decides what it means."""

    __slots__ = ("_contract", "_standard", "_three")

    def __init__(self) -> None:
        self._standard: bool | None = None
        self._three: bool | None = None
        self._contract: HistoriqueContract | None = None

    def labels(self, message: Mapping[str, Any]) -> dict[str, str]:
        """What a message says, as labels of the customer output with their data."""
        values = _plain(message)
        indexes = _indexes_wh(message)
        self._learn(values)
        given = self._in_historique(values, indexes) if self._standard is False else self._in_standard(values, indexes)
        return {label: data for label, value in given.items() if (data := label_data(label, value)) is not None}

    @property
    def meter_kind(self) -> str | None:
        """How its meter speaks, None while that is unknown."""
        if self._standard is None:
            return None
        return f"linky-{TicMode.STANDARD if self._standard else TicMode.HISTORIQUE}"

    def _learn(self, values: Mapping[str, Any]) -> None:
        period = label_data("PTEC", values.get("active_register_tier_delivered"))
        option = historique_contract(label_data("OPTARIF", values.get("current_tarif")) or "")
        if any(_known(values.get(key)) for key in _STANDARD_KEYS):
            self._standard = True
        elif period in REGISTER_OF_PERIOD or (option is not None and option.option != "BASE"):
            # "BASE" is a name of both modes.
            self._standard = False
        self._contract = option or _contract_of_period(period) or self._contract
        serial = values.get("meter_serial_number")
        phases = phases_of_serial(serial) if isinstance(serial, str) else None
        if phases is not None:
            # The meter's type stands in its number.
            self._three = phases == 3
        elif self._three is None and any(_whole(values.get(key)) for key in _PHASE_KEYS):
            self._three = True

    def _in_standard(self, values: Mapping[str, Any], indexes: Mapping[str, int]) -> dict[str, object]:
        drawn = indexes.get("current_summ_delivered")
        tiers = {number: indexes[key] for key, number in _TIERS.items() if key in indexes}
        if drawn == 0 and any(tiers.values()):
            # The total was not read yet.
            drawn = None
        if self._standard is None and any(index for number, index in tiers.items() if number > 2):
            # It may be a Tempo meter in historique mode, and the sum of its first two registers.
            drawn = None
        apparent = _apparent_of_three(values) if self._three else _whole(values.get("apparent_power"))
        return {
            "EAST": drawn,
            "EAIT": indexes.get("current_summ_received"),
            **{f"EASF{number:02}": index for number, index in tiers.items()},
            "NTARF": values.get("current_index_tarif"),
            "STGE": values.get("status_register"),
            "SINSTS": apparent,
            "SINSTI": _whole(values.get("injected_v_a")),
            **self._phases(values, "IRMS", "rms_current"),
            **self._phases(values, "URMS", "rms_voltage"),
        }

    def _in_historique(self, values: Mapping[str, Any], indexes: Mapping[str, int]) -> dict[str, object]:
        currents = self._phases(values, "IINST", "rms_current")
        if not self._three:
            currents = {"IINST": currents["IINST1"]}
        given: dict[str, object] = {
            "PTEC": values.get("active_register_tier_delivered"),
            # PAPP is of all phases, other than SINSTS1, which has the same name.
            "PAPP": _whole(values.get("apparent_power")),
            **currents,
        }
        contract = self._contract
        if contract is None:
            return given
        given["OPTARIF"] = contract.option
        if len(contract.indexes) == 1:
            given[contract.indexes[0]] = indexes.get("current_summ_delivered")
        else:
            # Their sum is the total. `current_summ_delivered` is not: the converter adds the first two alone.
            given |= {
                label: indexes.get(f"current_tier{number}_summ_delivered")
                for number, label in enumerate(contract.indexes, start=1)
            }
        return given

    def _phases(self, values: Mapping[str, Any], label: str, key: str) -> dict[str, object]:
        found: dict[str, object] = {f"{label}1": _whole(values.get(key))}
        if self._three:
            found |= {f"{label}2": _whole(values.get(f"{key}_ph_b")), f"{label}3": _whole(values.get(f"{key}_ph_c"))}
        return found


def _contract_of_period(period: str | None) -> HistoriqueContract | None:
    if period not in REGISTER_OF_PERIOD:
        return None
    if period in {"HN..", "PM.."}:
        return historique_contract("EJP.")
    if period in {"HC..", "HP.."}:
        return historique_contract("HC..")
    return historique_contract("BASE" if period == "TH.." else "BBR")


def _apparent_of_three(values: Mapping[str, Any]) -> int | None:
    total = _whole(values.get("total_apparent_power"))
    if total is not None:
        return total
    parts = [_whole(values.get(key)) for key in ("apparent_power", "apparent_power_ph_b", "apparent_power_ph_c")]
    return None if None in parts else sum(part for part in parts if part is not None)


def _indexes_wh(message: Mapping[str, Any]) -> dict[str, int]:
    """Indexes in Wh: from kWh under today's keys; the old converter's keys, in Wh, only where today's are missing."""
    indexes: dict[str, int] = {}
    for key, value in message.items():
        name = key if key.islower() else _snake(key)
        if name not in _ENERGIES or (name != key and name in message):
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        index_wh = value * 1000 if name == key else value
        if 0 <= index_wh <= _LARGEST_WH:
            indexes[name] = round(index_wh)
    return indexes


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with today's names of its keys; what stands under both is taken from today's."""
    old = {_snake(key): value for key, value in message.items() if not key.islower()}
    return old | {key: value for key, value in message.items() if key.islower()}


def _snake(key: str) -> str:
    """A key of the converter of 2021 as it is called today."""
    return _CAMEL.sub("_", key[:60]).lower()


def _known(value: Any) -> bool:
    return value is not None and value != "" and value not in _SENTINELS


def _whole(value: Any) -> int | None:
    """A whole number; None for sentinels, NaN and what no meter has."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value in _SENTINELS:
        return None
    return round(value) if -1e9 <= value <= 1e9 else None


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**15:
        value = str(value)
    return value.strip()[:64] or None if isinstance(value, str) else None
