"""Settings while the hub runs: what they are, where each comes from, and changing them in the file."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from app.domain.errors import EnvironmentFault, OperatorInputError, VersionConflict, WattdeckError
from app.domain.settings import Loaded, Row, Settings, catalogue
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import RefusedChangeError, RegistryFault
from app.stores.registry.registry import Registry
from app.stores.storage import Storage

log = logging.getLogger(__name__)

DEFAULT = "default"
FILE = "file"
# Passwords of a URL: after the user name, or as a parameter.
_PASSWORDS = ((re.compile(r"(://[^:/@\s]*):[^@\s]*@"), r"\1:***@"), (re.compile(r"(password=)[^&\s]*"), r"\1***"))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
Value = bool | int | float | str | tuple[str, ...] | None


@dataclasses.dataclass(frozen=True, slots=True)
class SettingView:
    """A setting as it is. `source` is default, file, or what stands above the file; `pending`: a restart changes it.

    `next_value` is what holds after a restart. A password in a value is hidden.
    """

    row: Row
    value: Any
    source: str
    next_value: Any
    pending: bool


@dataclasses.dataclass(frozen=True, slots=True)
class SettingsNow:
    """Every setting, the version of the file, and what is wrong with the file, if anything."""

    settings: tuple[SettingView, ...]
    version: int
    problem: str


class RuntimeSettings:
    """`now` is for any thread; the other methods block. Whoever uses a live setting asks `now`, or is told."""

    def __init__(
        self,
        path: Path,
        loaded: Loaded,
        evaluate: Callable[[bytes], Loaded],
        registry: Registry,
        *,
        now_us: Callable[[], int],
    ) -> None:
        """`evaluate` gives the settings as they would be with a text in the file; it raises WattdeckError."""
        self._path = path
        self._loaded = loaded
        self._evaluate = evaluate
        self._registry = registry
        self._now_us = now_us
        self._now = loaded.settings
        self._listeners: list[tuple[frozenset[str], Callable[[Settings], None]]] = []
        self._lock = threading.Lock()

    @property
    def now(self) -> Settings:
        """What holds: the start's settings, and of those that are live what was changed since."""
        return self._now

    def on_change(self, keys: Iterable[str], tell: Callable[[Settings], None]) -> None:
        """Have somebody told, in the thread of the change, when one of these keys has another value."""
        self._listeners.append((frozenset(keys), tell))

    def all(self) -> SettingsNow:
        """Every setting."""
        text = self._read()
        problem = ""
        try:
            coming = self._evaluate(text)
        except WattdeckError as error:
            problem, coming = error.text(), self._loaded
        return SettingsNow(
            tuple(self._view(row, coming) for row in catalogue().values()), version_of_text(text), problem
        )

    def change(self, values: Mapping[str, Value], version: int, actor: str) -> SettingsNow:
        """Write settings to the file (None: back to the default), and have the live ones hold at once.

        Raises VersionConflict when the file is another one, OperatorInputError for a value that can not be,
        RefusedChangeError for a key that is said above the file. Nothing is changed then.
        """
        with self._lock:
            text = self._read()
            if version_of_text(text) != version:
                raise VersionConflict
            rows = catalogue()
            before_file = self._evaluate(text)
            for key, value in values.items():
                self._check(key, value, rows, before_file)
            values = {key: _whole(rows[key], value) for key, value in values.items()}
            changed = _edited(text, values)
            coming = self._evaluate(changed)
            before = {key: _hidden(rows[key], rows[key].of(before_file.settings)) for key in values}
            after = {key: _hidden(rows[key], rows[key].of(coming.settings)) for key in values}
            deed = Deed(actor, "settings.edit", "settings:hub", before, after)
            try:
                with self._registry.writing() as connection:
                    record(connection, deed, self._now_us())
                    self._write(changed)
            except RegistryFault:
                # Neither is there without the other.
                if self._read() != text:
                    self._write(text)
                raise
            self._take_over(coming, values)
        return self.all()

    def _check(self, key: str, value: Value, rows: Mapping[str, Row], loaded: Loaded) -> None:
        if key not in rows:
            raise OperatorInputError(f"there is no setting {key[:60]!r}")
        source = self._source(key, loaded)
        if source not in (DEFAULT, FILE):
            raise RefusedChangeError(f"{key} is set by {source}, which stands above the file; change it there")
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, str) and _CONTROL.search(part):
                raise OperatorInputError(f"{key}: a setting has no control characters")

    def _take_over(self, coming: Loaded, values: Mapping[str, Value]) -> None:
        now, changed = self._now, set()
        for key in values:
            row = catalogue()[key]
            if row.live and row.of(now) != row.of(coming.settings):
                now = _with(now, row, row.of(coming.settings))
                changed.add(key)
        self._loaded = coming
        self._now = now
        log.info("settings changed: %s", ", ".join(sorted(values)))
        for keys, tell in self._listeners:
            if keys & changed:
                tell(now)

    def _view(self, row: Row, coming: Loaded) -> SettingView:
        value, following = row.of(self._now), row.of(coming.settings)
        source = self._source(row.key, coming)
        return SettingView(row, _hidden(row, value), source, _hidden(row, following), value != following)

    def _source(self, key: str, loaded: Loaded) -> str:
        source = loaded.said_by.get(key, DEFAULT)
        return FILE if source == str(self._path) else source

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise EnvironmentFault(f"{self._path} can not be read: {error.strerror}") from error

    def _write(self, text: bytes) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with fresh.open("wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if self._path.exists():
                fresh.chmod(self._path.stat().st_mode & 0o777)
            fresh.replace(self._path)
            Storage().sync_directory(self._path.parent)
        except OSError as error:
            raise EnvironmentFault(f"{self._path} can not be written: {error.strerror}; nothing was changed") from error


def version_of_text(text: bytes) -> int:
    """A number that is another one for another text, small enough for an ETag."""
    return int.from_bytes(hashlib.sha256(text).digest()[:7], "big")


def _edited(text: bytes, values: Mapping[str, Value]) -> bytes:
    """The text with other values, everything else as somebody wrote it."""
    try:
        document = tomlkit.parse(text)
        for key, value in values.items():
            section, _, name = key.partition(".")
            if value is None:
                if section in document and name in document[section]:
                    document[section].remove(name)
                continue
            if section not in document:
                document.add(section, tomlkit.table())
            document[section][name] = list(value) if isinstance(value, tuple) else value
        return tomlkit.dumps(document).encode()
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise OperatorInputError(f"the file of settings can not be edited: {error}") from error


def _whole(row: Row, value: Value) -> Value:
    """A number that came without a fraction, as the whole number that is wanted."""
    return int(value) if row.type is int and isinstance(value, float) and value.is_integer() else value


def _with(settings: Settings, row: Row, value: Any) -> Settings:
    section, _, name = row.key.partition(".")
    return dataclasses.replace(settings, **{section: dataclasses.replace(getattr(settings, section), **{name: value})})


def _hidden(row: Row, value: Any) -> Any:
    if row.secret and isinstance(value, str):
        for found, instead in _PASSWORDS:
            value = found.sub(instead, value)
    return list(value) if isinstance(value, tuple) else value
