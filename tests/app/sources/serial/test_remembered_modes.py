"""The memory of modes."""

from __future__ import annotations

import logging

import pytest

from app.domain.linky import TicMode
from app.sources.serial.remembered_modes import MAX_PORTS, RememberedModes


def test_a_mode_is_remembered_per_port(tmp_path):
    path = tmp_path / "modes.json"
    modes = RememberedModes(path)
    modes.remember("COM3", TicMode.STANDARD)
    modes.remember("COM4", TicMode.HISTORIQUE)
    modes.remember("COM3", TicMode.HISTORIQUE)
    later = RememberedModes(path)

    assert [later.mode(port) for port in ("COM3", "COM4", "COM5")] == [TicMode.HISTORIQUE, TicMode.HISTORIQUE, None]
    assert [file.name for file in tmp_path.iterdir()] == ["modes.json"]


def test_only_the_latest_ports_are_kept(tmp_path):
    modes = RememberedModes(tmp_path / "modes.json")
    for number in range(MAX_PORTS + 1):
        modes.remember(f"COM{number}", TicMode.STANDARD)

    assert modes.mode("COM0") is None
    assert modes.mode(f"COM{MAX_PORTS}") is TicMode.STANDARD


@pytest.mark.parametrize("text", ["", "{", "[]", '{"COM3": 1}', '{"COM3": "loud"}', "\xff"])
def test_a_damaged_file_is_an_empty_one(tmp_path, text):
    path = tmp_path / "modes.json"
    path.write_text(text, encoding="latin-1")
    modes = RememberedModes(path)

    assert modes.mode("COM3") is None
    modes.remember("COM3", TicMode.STANDARD)
    assert modes.mode("COM3") is TicMode.STANDARD


def test_a_place_that_can_not_be_written_is_said_once(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    modes = RememberedModes(tmp_path / "no" / "modes.json")
    modes.remember("COM3", TicMode.STANDARD)
    modes.remember("COM4", TicMode.STANDARD)

    assert len(caplog.records) == 1


def test_without_a_path_nothing_is_kept():
    modes = RememberedModes(None)
    modes.remember("COM3", TicMode.STANDARD)

    assert modes.mode("COM3") is None
