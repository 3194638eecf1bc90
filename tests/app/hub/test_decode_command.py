"""`./run decode`: what it prints and how it ends."""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.linky import TicMode
from app.hub import decode_command
from app.hub.decode_command import NOTHING_FOUND, CaptureUnreadableError
from app.hub.tic_capture import read_capture
from app.protocol.tic.groups import Fault, GroupReader
from tests.app.protocol.tic import synthetic

ROOT = pathlib.Path(__file__).parents[3]
FIXTURES = ROOT / "tests" / "fixtures" / "tic"
CAPTURES = ROOT.parent / "shared" / "captures" / "tic"
METER = "041961000017"


def decode(path, *words: str) -> int:
    parser = argparse.ArgumentParser()
    decode_command.add_arguments(parser)
    return decode_command.run(parser.parse_args([str(path), *words]))


@pytest.fixture
def capture(tmp_path):
    def write(content: bytes) -> pathlib.Path:
        path = tmp_path / "capture.bin"
        path.write_bytes(content)
        return path

    return write


def test_the_json_object(capsys):
    code = decode(FIXTURES / "std_hc_mono.bin", "--as", "tic", "--json")
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (found["mode"], found["frames"], found["groups_good"], found["groups_bad"]) == ("standard", 3, 93, 0)
    assert found["reasons"] == {}
    assert found["warnings"] == {}
    assert [reading["drawn_wh"] for reading in found["readings"]] == [12_345_678, 12_345_679, 12_345_680]
    assert found["readings"][0]["time_ms"] == 1_763_888_400_000
    assert found["readings"][0]["registers_wh"]["2"] == 7_345_678


def test_bad_groups_are_told_by_reason_and_label(capture, capsys):
    stream = synthetic.standard_mono().replace(b"PREF\t09", b"PREF\t08").replace(b"URMS1\t231\t", b"URMS1\t231")
    code = decode(capture(stream), "--json")
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (found["groups_good"], found["groups_bad"]) == (29, 2)
    assert found["reasons"] == {"checksum": 1, "separator": 1}
    assert found["reasons_by_label"] == {"PREF": {"checksum": 1}, "URMS1": {"separator": 1}}
    assert (found["frames"], found["frames_correct"]) == (1, 0)


def test_the_table_for_people(capsys):
    code = decode(FIXTURES / "std_hc_mono.bin")
    table = capsys.readouterr().out

    assert code == 0
    for text in ("3 whole", "93 good, 0 bad", "H PLEINE/CREUSE", "9 kVA", "01:00 register 1", "1840 VA", "12345680 Wh"):
        assert text in table


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_the_meters_number_is_masked_unless_asked_for(words, capsys):
    decode(FIXTURES / "std_hc_mono.bin", *words)
    masked = capsys.readouterr().out
    decode(FIXTURES / "std_hc_mono.bin", "--show-ids", *words)
    shown = capsys.readouterr().out

    assert METER not in masked
    assert "041961xxxxxx" in masked
    assert METER in shown
    for output in (masked, shown):
        assert "00000000000017" not in output


def test_a_frame_whose_end_is_missing_still_has_its_values(capture, capsys):
    decode(capture(synthetic.historique_hc().rstrip(b"\x03")), "--json")
    found = json.loads(capsys.readouterr().out)

    assert (found["frames"], found["frames_partial"]) == (0, 1)
    assert [reading["apparent_va"] for reading in found["readings"]] == [1840]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"just some text\nof another kind\n", "this is no TIC"),
        (bytes(range(128, 256)) * 20, "the speed is wrong"),
        ("ADCO 1 2\r\n".encode("utf-16"), "UTF-16"),
        (synthetic.standard_mono().replace(b"\t", b" "), "tabs were turned into blanks"),
        (synthetic.standard_mono().replace(b"\r\n", b"\\r\\n"), "written out"),
        (synthetic.standard_mono().hex(" ").encode(), "hexadecimal"),
    ],
)
def test_a_file_without_groups_is_explained(capture, capsys, content, text):
    code = decode(capture(content))
    captured = capsys.readouterr()

    assert code == NOTHING_FOUND
    assert "no group of a meter" in captured.err
    assert text in captured.err


@pytest.mark.parametrize(
    ("stream", "hint"),
    [
        (synthetic.with_parity(synthetic.standard_mono()), "7 data bits"),
        (synthetic.historique_tri(), "one register only"),
        (synthetic.standard_mono() + synthetic.historique_hc(), "both modes"),
        (synthetic.standard_mono() + synthetic.standard_tri_producer(), "2 meters"),
        (synthetic.standard_mono()[100:400], "no whole frame"),
        (synthetic.historique_hc().replace(b"PTEC HP..  \r", b"PTEC HP..\r"), "blanks at line ends"),
        (synthetic.historique_hc().replace(b"HCHC 0", b"HCHC 1"), "are bad"),
    ],
)
def test_hints_for_a_technician(stream, hint):
    hints = read_capture([stream]).hints

    assert any(hint in one for one in hints)


def test_a_faultless_capture_has_no_hints():
    assert read_capture([synthetic.files()["std_hc_mono.bin"]]).hints == []


def test_a_missing_file(tmp_path):
    with pytest.raises(CaptureUnreadableError, match="no such file"):
        decode(tmp_path / "absent")


def test_a_directory(tmp_path):
    with pytest.raises(CaptureUnreadableError, match="is a directory"):
        decode(tmp_path)


def test_an_empty_file(capture):
    with pytest.raises(CaptureUnreadableError, match="empty"):
        decode(capture(b""))


def test_an_unknown_dialect(capture, capsys):
    with pytest.raises(SystemExit) as caught:
        decode(capture(b"x"), "--as", "sml")

    assert caught.value.code == 2


def test_two_meters_in_one_capture_do_not_disturb_each_others_indexes():
    found = read_capture([synthetic.standard_mono() + synthetic.standard_tri_producer()])

    assert [reading.drawn_wh for reading in found.readings] == [12_345_678, 100_000]
    assert not found.warnings


@given(st.lists(st.binary(max_size=400) | st.sampled_from(list(synthetic.files().values())), max_size=5))
def test_any_bytes_are_read(chunks):
    found = read_capture(chunks)

    assert found.bytes_read == sum(len(chunk) for chunk in chunks)
    assert sum(found.reasons.values()) == found.groups_bad
    assert set(found.reasons) <= set(Fault)
    assert sum(found.modes.values()) == found.groups_good
    assert found.mode is None or isinstance(found.mode, TicMode)


@pytest.mark.skipif(not CAPTURES.is_dir(), reason="captures of real meters are not at hand (../shared/captures/tic)")
def test_a_capture_of_a_real_meter_through_the_command(capsys):
    code = decode(CAPTURES / "std_hc_mono_prod_noisy_fmartinou.log", "--json")
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (found["groups_good"], found["groups_bad"]) == (431, 4)
    assert found["reasons"] == {"control_byte": 4}
    assert [reading["apparent_va"] for reading in found["readings"][:3]] == [-1675, -1678, -1682]


def test_readings_are_labelled_and_facts_are_readable(capture, capsys):
    tempo = synthetic.frame(
        TicMode.HISTORIQUE,
        ("ADCO", "041961000017"),
        ("OPTARIF", "BBR("),
        ("ISOUSC", "30"),
        ("BBRHCJB", "000000001"),
        ("PTEC", "HPJB"),
        ("PAPP", "00100"),
    )
    decode(capture(tempo))
    historique = capsys.readouterr().out
    decode(capture(b"".join(synthetic.standard_mono(second) for second in range(5))))
    standard = capsys.readouterr().out

    assert "Tempo (BBR, load program '(')\n" in historique
    assert " 9 kVA\n" in standard
    titles = [line.split()[0] for line in standard.splitlines() if " VA" in line]
    assert titles == ["first", "last"]


def test_standard_input_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(synthetic.standard_mono())))
    decode("-")
    table = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO()))

    assert table.startswith("standard input: ")
    with pytest.raises(CaptureUnreadableError, match=r"^standard input: it is empty"):
        decode("-")


def test_a_file_without_groups_gets_no_table_of_zeros(capture, capsys):
    code = decode(capture(bytes(100_000)))
    printed = capsys.readouterr()

    assert code == NOTHING_FOUND
    assert printed.out == ""
    assert printed.err.startswith("decode: ")
    assert "no group of a meter (TIC) in 100000 bytes" in printed.err


@pytest.mark.parametrize("filler", [b"\0", b"\r", b"\n", b"\xff"])
def test_filler_is_not_looked_at_byte_by_byte(filler, monkeypatch):
    looked = []
    control = GroupReader._control
    monkeypatch.setattr(GroupReader, "_control", lambda *words: (looked.append(1), control(*words))[1])
    found = read_capture([filler * 65_536] * 4)

    assert found.bytes_read == 262_144
    assert len(looked) <= 4
