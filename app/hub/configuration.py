"""Reads the settings: file, environment, flags and --set, each over the one before; every mistake names its source."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import tomllib
import zoneinfo
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_type_hints

from app.domain.broker_url import masked, parse_broker_url
from app.domain.errors import OperatorInputError
from app.domain.hosts import is_loopback
from app.domain.settings import Loaded, Row, Settings, catalogue
from broker.packets.topics import is_filter

FILE_NAME = "wattdeck.toml"
ENVIRONMENT_PREFIX = "WATTDECK_"
TIME_ZONE = "store.time_zone"
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
# Words of the environment that are not settings: fault injection and the folder of an outside test-suite.
ENVIRONMENT_OTHERS = frozenset({"WATTDECK_FAIL_POINT", "WATTDECK_PAHO_SUITES", "WATTDECK_TEST_POSTGRES"})


class SettingError(OperatorInputError):
    """A setting is unknown or has a bad value."""

    def __init__(self, source: str, key: str, problem: str) -> None:
        self.source = source
        self.key = key
        self.problem = problem
        super().__init__(f"{source}: {key}: {problem}")

    def text(self) -> str:
        return str(self)


class Layers:
    """The sources of settings in rising order: the file, whose text may be another one, and what stands above it."""

    def __init__(self, path: Path, above: Mapping[str, Mapping[str, object]]) -> None:
        self.path = path
        self._above = above

    def load(self) -> Loaded:
        """The settings as the file is now. Raises SettingError."""
        return self.evaluate(read_file(self.path))

    def evaluate(self, text: bytes) -> Loaded:
        """The settings as they would be with this text in the file. Raises SettingError."""
        sources = {str(self.path): _from_text(self.path, text, catalogue()), **self._above}
        values: dict[str, object] = {}
        said_by: dict[str, str] = {}
        for source, said in sources.items():
            values |= said
            said_by |= dict.fromkeys(said, source)
        settings = _build(values)
        _check_meanings(settings, said_by)
        return Loaded(settings, said_by)

    @classmethod
    def around(cls, path: Path, settings: Settings) -> Layers:
        """For settings that a program made: what differs from the file stands above it."""
        below = cls(path, {}).load().settings
        differing = {key: row.of(settings) for key, row in catalogue().items() if row.of(settings) != row.of(below)}
        return cls(path, {"program": differing})


def load_layers(
    data_dir: Path,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    assignments: Iterable[str] = (),
) -> Layers:
    """Where the settings of a hub come from; as `load_settings`."""
    rows = catalogue()
    said = {key: value for key, value in (flags or {}).items() if value is not None}
    return Layers(
        data_dir / FILE_NAME,
        {
            "environment": _from_environment(os.environ if environment is None else environment, rows),
            "flag": {key: _checked("flag", rows[key], value) for key, value in said.items()},
            "--set": _from_assignments(assignments, rows),
        },
    )


def load_settings(
    data_dir: Path,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    assignments: Iterable[str] = (),
) -> Settings:
    """The settings of a hub; `flags` are dotted keys of given flags, `assignments` the words of --set (KEY=VALUE).

    Raises:
        SettingError: an unknown key, a value of the wrong type or out of range, or an unreadable file.
    """
    layers = load_layers(data_dir, environment=environment, flags=flags, assignments=assignments)
    return layers.load().settings


def _check_meanings(settings: Settings, said_by: Mapping[str, str]) -> None:
    """What a type and a range can not tell. Raises SettingError."""
    zone = settings.store.time_zone
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        problem = f"{zone!r} is no time zone; write one such as Europe/Paris"
        raise SettingError(said_by["store.time_zone"], "store.time_zone", problem) from None
    kept = settings.store
    tiers = {name: getattr(kept, name) for name in ("raw_days", "ten_minute_days", "hour_days", "day_days")}
    for (shorter, days), (longer, most) in itertools.pairwise(tiers.items()):
        if days > most:
            key = f"store.{longer if f'store.{longer}' in said_by else shorter}"
            problem = f"store.{longer} ({most}) must be at least store.{shorter} ({days}), of which it is made"
            raise SettingError(said_by[key], key, problem)
    if bool(settings.tls.certificate) != bool(settings.tls.key):
        given, missing = ("certificate", "key") if settings.tls.certificate else ("key", "certificate")
        problem = f"tls.{given} is set and tls.{missing} is not; set both, or none for the hub's own"
        raise SettingError(said_by[f"tls.{given}"], f"tls.{missing}", problem)
    _check_external(settings, said_by)
    at = settings.backup.at
    if at and not _TIME_OF_DAY.fullmatch(at):
        raise SettingError(said_by["backup.at"], "backup.at", f"{at!r} is no time of day; write one such as 03:30")
    if at and not settings.backup.directory:
        problem = "backup.at is set and backup.directory is not; set both, or none"
        raise SettingError(said_by["backup.at"], "backup.directory", problem)
    if not settings.listen.api_host:
        problem = "an empty host would serve everybody; write 127.0.0.1, or the address to serve"
        raise SettingError(said_by["listen.api_host"], "listen.api_host", problem)
    if settings.api.metrics_open and not is_loopback(settings.listen.api_host):
        problem = f"counters without a login are for this machine alone, and the API is on {settings.listen.api_host}"
        raise SettingError(said_by["api.metrics_open"], "api.metrics_open", problem)


def _check_external(settings: Settings, said_by: Mapping[str, str]) -> None:
    external = settings.external
    if external.url:
        try:
            parse_broker_url(external.url)
        except ValueError as error:
            raise SettingError(said_by["external.url"], "external.url", str(error)) from None
    elif settings.hub.engine == "external":
        problem = "hub.engine is external and no broker is named; say --broker mqtt://host, or set external.url"
        raise SettingError(said_by["hub.engine"], "external.url", problem)
    if bool(external.certificate) != bool(external.key):
        given, missing = ("certificate", "key") if external.certificate else ("key", "certificate")
        problem = f"external.{given} is set and external.{missing} is not; set both, or none"
        raise SettingError(said_by[f"external.{given}"], f"external.{missing}", problem)
    for topic in external.topics:
        if not is_filter(topic):
            raise SettingError(said_by["external.topics"], "external.topics", f"{topic!r} is no filter of topics")
    if any(sign in external.shared_group for sign in "/+#"):
        problem = "a group's name has none of / + #"
        raise SettingError(said_by["external.shared_group"], "external.shared_group", problem)


def read_file(path: Path) -> bytes:
    """The text of the file, empty when there is none. Raises SettingError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise SettingError(str(path), "(file)", f"can not be read: {error.strerror}") from error


def _from_text(path: Path, text: bytes, rows: Mapping[str, Row]) -> dict[str, object]:
    try:
        document = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(str(path), "(file)", f"is not valid TOML: {error}") from error
    values: dict[str, object] = {}
    for section, content in document.items():
        if not isinstance(content, dict):
            raise SettingError(str(path), section, "must stand in a section, such as [ingest]")
        for name, value in content.items():
            key = f"{section}.{name}"
            values[key] = _checked(str(path), _known(str(path), key, rows), value)
    return values


def _from_environment(environment: Mapping[str, str], rows: Mapping[str, Row]) -> dict[str, object]:
    by_name = {ENVIRONMENT_PREFIX + key.replace(".", "_").upper(): row for key, row in rows.items()}
    values: dict[str, object] = {}
    for name, text in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in ENVIRONMENT_OTHERS:
            continue
        row = by_name.get(name)
        if row is None:
            raise SettingError("environment", name, "is no setting" + _nearest(name, by_name))
        values[row.key] = _checked(f"environment {name}", row, _parsed(row, text))
    return values


def _from_assignments(assignments: Iterable[str], rows: Mapping[str, Row]) -> dict[str, object]:
    values: dict[str, object] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise SettingError("--set", assignment, "must be KEY=VALUE")
        row = _known("--set", key.strip(), rows)
        values[row.key] = _checked("--set", row, _parsed(row, text.strip()))
    return values


def _known(source: str, key: str, rows: Mapping[str, Row]) -> Row:
    row = rows.get(key)
    if row is None:
        raise SettingError(source, key, "is no setting" + _nearest(key, rows))
    return row


def _nearest(name: str, names: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 - needed for a mistake only

    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else "; docs/operating.md lists all"


def _parsed(row: Row, text: str) -> object:
    """A text of the environment or --set as TOML would have it; plain words need no quotes."""
    if row.type is str:
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
    if row.type is bool:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}.get(text.lower(), text)
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        # A list may also be written as plain words with commas.
        return [part.strip() for part in text.split(",") if part.strip()] if row.type not in (int, float) else text


def _checked(source: str, row: Row, value: object) -> object:
    shown = repr(masked(value)) if isinstance(value, str) else repr(value)
    wrong = SettingError(source, row.key, f"{shown} is not allowed; it takes {row.allowed()}")
    if row.type is bool:
        if not isinstance(value, bool):
            raise wrong
    elif row.type in (int, float):
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or (row.type is int and isinstance(value, float))
        ):
            raise wrong
        # The comparison also refuses nan.
        low = row.minimum is None or value >= row.minimum
        high = row.maximum is None or value <= row.maximum
        if not (low and high):
            raise wrong
    elif row.type is str:
        if not isinstance(value, str) or (row.choices is not None and value not in row.choices):
            raise wrong
        if row.key == TIME_ZONE and not _is_time_zone(value):
            raise SettingError(source, row.key, f"{value!r} is no time zone; write one such as Europe/Paris")
    else:
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise wrong
        return tuple(value)
    return value


def _is_time_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _build(values: Mapping[str, object]) -> Settings:
    sections: dict[str, object] = {}
    for name, section_class in get_type_hints(Settings).items():
        prefix = f"{name}."
        chosen = {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}
        sections[name] = section_class(**chosen)
    return dataclasses.replace(Settings(), **sections)  # type: ignore[arg-type]
