"""Remembers the mode each port's meter spoke last, in a small file, so that the next start does not search."""

from __future__ import annotations

import json
import logging
import pathlib

from app.domain.linky import TicMode
from app.domain.p1 import P1Mode

log = logging.getLogger(__name__)

# Ports come and go under new names; the file keeps the latest ones only.
MAX_PORTS = 64
_MODES: dict[str, TicMode | P1Mode] = {mode.value: mode for modes in (TicMode, P1Mode) for mode in modes}


class RememberedModes:
    """The file. It is a convenience: when it can not be read or written that is logged once, and nothing else."""

    def __init__(self, path: pathlib.Path | None) -> None:
        self._path = path
        self._complained = False

    def mode(self, url: str) -> TicMode | P1Mode | None:
        """What was remembered of a port."""
        return _MODES.get(self._read().get(url, ""))

    def remember(self, url: str, mode: TicMode | P1Mode) -> None:
        """Keep the mode of a port."""
        if self._path is None:
            return
        ports = self._read()
        if ports.get(url) == mode.value:
            return
        ports.pop(url, None)
        ports[url] = mode.value
        latest = dict(list(ports.items())[-MAX_PORTS:])
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            temporary.write_text(json.dumps(latest, indent=1) + "\n", encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            self._complain("write", error)

    def _read(self) -> dict[str, str]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._complain("read", error)
            return {}
        if not isinstance(found, dict):
            return {}
        return {url: mode for url, mode in found.items() if isinstance(url, str) and isinstance(mode, str)}

    def _complain(self, what: str, error: Exception) -> None:
        if not self._complained:
            self._complained = True
            log.warning("can not %s the remembered modes of serial ports: %s", what, error)
