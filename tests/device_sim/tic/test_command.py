"""The command line of the simulated meter: mistakes are sentences, and a run of some seconds ends by itself."""

from __future__ import annotations

import pytest

import main as program


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--tcp", "70000"), "--tcp"),
        (("--tcp", "0", "--kva", "2"), "--kva"),
        (("--tcp", "0", "--start", "yesterday"), "--start"),
        (("--tcp", "0", "--start", "2026-01-01T00:00:00"), "zone"),
        (("--tcp", "0", "--seed", "-1"), "--seed"),
        (("--tcp", "0", "--power", "nan"), "--power"),
        (("--tcp", "0", "--seconds", "0"), "--seconds"),
        (("--tcp", "0", "--seconds", "nan"), "--seconds"),
    ],
)
def test_a_mistake_is_a_sentence(capsys, words, says):
    assert program.main(["sim", "tic", *words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("wattdeck: ")
    assert says in said.err
    assert said.out == ""


@pytest.mark.parametrize("words", [(), ("--tcp", "0", "--pty"), ("--pty", "--fault", "none"), ("--pty", "--mode", "x")])
def test_what_the_parser_refuses(capsys, words):
    with pytest.raises(SystemExit) as end:
        program.main(["sim", "tic", *words])
    assert end.value.code == 2


def test_it_ends_after_its_seconds(capsys):
    assert program.main(["sim", "tic", "--tcp", "0", "--seconds", "0.2"]) == 0
    said = capsys.readouterr().out.split()
    assert said[:2] == ["listening", "127.0.0.1"]
    assert 0 < int(said[2]) < 65_536


def test_help_tells_every_fault_and_default(capsys):
    with pytest.raises(SystemExit):
        program.main(["sim", "tic", "--help"])
    said = capsys.readouterr().out
    for word in (
        "bad-checksum",
        "index-back",
        "(default: standard)",
        "(default: base)",
        "{base,hchp,ejp,tempo,weekend",
    ):
        assert word in said
