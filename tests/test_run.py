"""`./run` in a fresh checkout: one set-up whatever happens to it, sentences for what fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRINT_WORDS = "import os, sys\nprint(os.getcwd(), sys.argv[1:])\n"

pytestmark = pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="./run needs bash")


@pytest.fixture
def checkout(tmp_path):
    """A checkout that needs no packages, and a system that has all of Debian's."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copy(ROOT / "run", folder / "run")
    (folder / "requirements.lock").write_text("")
    (folder / "main.py").write_text(PRINT_WORDS)
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "dpkg-query").write_text("#!/bin/sh\necho installed\nexit 1\n")
    (commands / "dpkg-query").chmod(0o755)
    return folder


def begin(checkout, *words, cwd=None, **environment):
    path = f"{checkout.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [checkout / "run", *words],
        cwd=cwd or checkout,
        env={**os.environ, "PATH": path, "PYTHON": sys.executable, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(checkout, *words, **options):
    process = begin(checkout, *words, **options)
    out, error = process.communicate(timeout=120)
    return process.returncode, out, error


def test_set_up_once_and_words_are_handed_over_in_the_callers_folder(checkout, tmp_path):
    code, out, error = run(checkout, "decode", "a file", cwd=tmp_path)
    assert (code, out) == (0, f"{tmp_path} ['decode', 'a file']\n"), error
    assert "installing Python packages" in error

    code, _, error = run(checkout)
    assert (code, error) == (0, "")
    link = tmp_path / "wattdeck"
    link.symlink_to(checkout / "run")
    assert (
        subprocess.run([link], check=True, capture_output=True, env={**os.environ, "PYTHON": sys.executable}).stderr
        == b""
    )


def test_two_at_once_and_a_lock_that_was_left(checkout):
    (checkout / ".venv.busy").mkdir()
    (checkout / ".venv.busy" / "pid").write_text("999999999")
    both = [begin(checkout, "x"), begin(checkout, "y")]
    ends = [process.communicate(timeout=120) for process in both]

    assert [process.returncode for process in both] == [0, 0], ends
    assert sum("installing Python packages" in error for _out, error in ends) == 1
    assert not (checkout / ".venv.busy").exists()


def test_a_moved_checkout_and_an_interrupted_set_up_are_made_anew(checkout, tmp_path):
    assert run(checkout)[0] == 0
    moved = tmp_path / "moved"
    checkout.rename(moved)
    assert "installing Python packages" in run(moved)[2]
    (moved / ".venv" / ".installed-from").unlink()
    assert "installing Python packages" in run(moved)[2]


def test_packages_that_can_not_be_had_end_with_a_sentence(checkout):
    (checkout / "requirements.lock").write_text("nothing-of-that-name==1.0 --hash=sha256:" + "0" * 64 + "\n")
    code, _, error = run(checkout, PIP_NO_INDEX="1")

    assert code == 2
    assert "is this machine online?" in error
    assert not (checkout / ".venv.busy").exists()


def test_a_python_that_is_none_is_said(checkout):
    code, _, error = run(checkout, PYTHON="/bin/false")

    assert code == 2
    assert "PYTHON=/bin/false" in error
