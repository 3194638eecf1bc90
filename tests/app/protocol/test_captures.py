"""Captures of real meters, where they are at hand, give what captures.toml says, through the command."""

from __future__ import annotations

import argparse
import json
import pathlib
import tomllib

import pytest

from app.hub import decode_command

ROOT = pathlib.Path(__file__).parents[3]
CAPTURES = ROOT.parent / "shared" / "captures"
EXPECTED = tomllib.loads((pathlib.Path(__file__).parent / "captures.toml").read_text(encoding="utf-8"))
FOLDERS = ("tic", "dsmr", "mqtt")

pytestmark = pytest.mark.skipif(
    not CAPTURES.is_dir(), reason="captures of real meters are not at hand (../shared/captures)"
)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_capture(name, capsys):
    parser = argparse.ArgumentParser()
    decode_command.add_arguments(parser)
    code = decode_command.run(parser.parse_args([str(CAPTURES / name), "--json"]))
    found = json.loads(capsys.readouterr().out)
    expected = EXPECTED[name]

    assert code == 0
    assert found["messages"] == expected["messages"]
    assert len(found["readings"]) == expected["readings"]
    refused = len(found["quarantined"]) if name.startswith("mqtt/") else sum(found["reasons"].values())
    assert refused == expected["refused"]
    wanted = expected.get("last", {})
    last = found["readings"][-1] if found["readings"] else {}
    assert {field: last.get(field) for field in wanted} == wanted
    # Nothing may be missing without somebody having said why.
    assert "why" in expected or (expected["messages"], expected["refused"]) == (expected["readings"], 0)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_capture_has_its_row(folder):
    rows = {name.partition("/")[2] for name in EXPECTED if name.startswith(f"{folder}/")}

    assert {path.name for path in (CAPTURES / folder).iterdir()} == rows
