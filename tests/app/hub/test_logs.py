"""The hub's log, in processes of their own: nobody reads stderr, the disk refuses, files are bounded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.hub import logs

ROOT = Path(__file__).parents[3]
SCRIPT = """
import logging, pathlib, sys, time
from app.hub import logs
logs.FILE_BYTES = int(sys.argv[3])
made = logs.HubLogs("INFO", pathlib.Path(sys.argv[1]))
began = time.monotonic()
for number in range(int(sys.argv[2])):
    logging.getLogger("part").info("line %d of %s", number, "x" * 60)
took = time.monotonic() - began
try:
    raise ValueError("the fault")
except ValueError:
    logging.getLogger("part").exception("it failed: %s", "\\ud800")
logging.getLogger("part").info("does not fit: %d", "word")
made.close()
made.close()
print(made.dropped, took)
"""


def run(folder, lines, *, stderr, file_bytes=logs.FILE_BYTES):
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(lines), str(file_bytes)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=True,
    )


def test_lines_go_to_file_and_stderr(tmp_path):
    done = run(tmp_path / "logs", 100, stderr=subprocess.PIPE)

    text = (tmp_path / "logs" / "hub.log").read_text(encoding="utf-8", errors="replace")
    assert done.stdout.split()[0] == "0"
    for where in (text, done.stderr):
        assert "INFO part line 99 of " in where
        assert "ValueError: the fault" in where
        assert "does not fit" in where


def test_a_pipe_whose_reader_has_left_costs_nothing(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = run(tmp_path, 100, stderr=write)
    os.close(write)

    assert done.stdout.split()[0] == "0"
    assert "line 99 of " in (tmp_path / "hub.log").read_text(errors="replace")


def test_a_reader_that_stands_still_holds_nothing_up(tmp_path):
    read, write = os.pipe()
    done = run(tmp_path, 30_000, stderr=write)
    os.close(write)
    os.close(read)

    dropped, took = done.stdout.split()
    # What a pipe holds, what waits, and the rest.
    assert int(dropped) > 10_000
    assert float(took) < 30, "nobody waited for the reader"


def test_a_folder_that_can_not_be_written_costs_the_file_only(tmp_path):
    (tmp_path / "logs").write_text("a file, where the folder would be")
    done = run(tmp_path / "logs", 10, stderr=subprocess.PIPE)

    assert "no log file in" in done.stderr
    assert "line 9 of " in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_counted(tmp_path):
    (tmp_path / "hub.log").symlink_to("/dev/full")
    done = run(tmp_path, 10, stderr=subprocess.PIPE)

    assert int(done.stdout.split()[0]) >= 10
    assert "line 9 of " in done.stderr


def test_the_files_are_bounded(tmp_path):
    run(tmp_path, 5_000, stderr=subprocess.DEVNULL, file_bytes=20_000)

    files = list(tmp_path.iterdir())
    assert len(files) == 1 + logs.OLDER_FILES
    assert all(file.stat().st_size <= 20_000 for file in files)
    assert logs.FILE_BYTES * len(files) == 50_000_000
