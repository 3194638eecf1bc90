"""The command line: every word has help, every mistake a sentence and exit code 2."""

from __future__ import annotations

import argparse
import importlib

import pytest

import main as program
from app.domain.errors import BugError, OperatorInputError


def outcome(capsys, *words):
    """Exit code, standard output, standard error."""
    try:
        code = program.main(list(words))
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out, said.err


COMMANDS = [(command.name,) for command in program.COMMANDS]
BENCHES = [("bench", command.name) for command in program.BENCHES]


def test_help_lists_every_command(capsys):
    code, said, _ = outcome(capsys, "--help")

    assert code == 0
    for command in program.COMMANDS:
        assert command.name in said
        assert command.help.split(",")[0].split(";")[0][:30] in " ".join(said.split())


@pytest.mark.parametrize("words", COMMANDS + BENCHES)
def test_every_command_has_help_with_its_defaults(capsys, words):
    code, said, _ = outcome(capsys, *words, "--help")

    assert code == 0
    assert "usage: ./run" in said
    table = program.BENCHES if len(words) > 1 else program.COMMANDS
    command = {command.name: command for command in table}[words[-1]]
    if not command.module:
        return
    parser = program._Parser()
    importlib.import_module(command.module).add_arguments(parser)
    flat = "".join(said.split())
    for action in parser._actions:
        if not action.option_strings or action.nargs == 0 or action.default in (None, [], ()):
            continue
        shown = "" if action.default == argparse.SUPPRESS else "".join(str(action.default).split()) + ")"
        assert "(default:" + shown in flat, action.option_strings
    assert "(default:None)" not in flat


def test_the_hubs_flags_show_the_settings_defaults(capsys):
    said = " ".join(outcome(capsys, "hub", "--help")[1].split())

    for default in ("default: 1883", "default: 8443", "default: native"):
        assert default in said


@pytest.mark.parametrize(
    "words", [("huh",), ("bench", "huh"), ("bench",), ("hub", "--huh"), ("hub", "--mqtt-port", "x"), ("read",)]
)
def test_a_mistake_ends_with_2_and_usage(capsys, words):
    code, _, said = outcome(capsys, *words)

    assert code == 2
    assert "usage" in said


def test_the_console_and_the_tests_say_what_to_do(capsys):
    assert outcome(capsys)[0] == 2
    code, _, said = outcome(capsys, "test")
    assert (code, "./run test" in said) == (2, True)


@pytest.mark.parametrize(("error", "code"), [(OperatorInputError("no such thing"), 2), (BugError("impossible"), 1)])
def test_an_error_with_a_sentence_is_that_sentence(capsys, monkeypatch, error, code):
    def fail(_args):
        raise error

    monkeypatch.setattr("app.hub.provision_command.run", fail)
    found, _, said = outcome(capsys, "provision", "A")

    assert (found, said) == (code, f"wattdeck: {error}\n")


@pytest.mark.parametrize("value", ["Mars/Phobos", "", "../etc/passwd"])
def test_a_time_zone_that_is_none_is_a_mistake(capsys, tmp_path, value):
    code, _, said = outcome(capsys, "hub", "--data", str(tmp_path), "--set", f"store.time_zone={value}")

    assert code == 2
    assert "no time zone" in said


@pytest.mark.parametrize(("words", "what"), [([], "the console"), (["demo"], "the simulated neighbourhood")])
def test_what_is_not_built_yet_says_so(words, what, capsys):
    assert program.main(words) == 2
    assert f"{what} is not built yet" in capsys.readouterr().out
