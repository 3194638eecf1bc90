"""One hub per directory, and telling it of a change reaches that hub and nobody else."""

from __future__ import annotations

import json
import os
import signal
import threading

import pytest

from app.hub import data_directory
from app.hub.data_directory import DataDirectory, DirectoryInUse, HubLock, read_status, tell_running_hub


@pytest.fixture
def directory(tmp_path):
    found = DataDirectory(tmp_path / "data")
    found.make()
    return found


@pytest.fixture
def signals(monkeypatch):
    sent = []
    monkeypatch.setattr(os, "kill", lambda process_id, what: sent.append((process_id, what)))
    return sent


def test_a_second_hub_is_refused_and_the_first_is_named(directory):
    lock = HubLock(directory)
    lock.take()
    lock.say({"mqtt": ("127.0.0.1", 1883)})
    with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"):
        HubLock(directory).take()
    lock.release()
    assert read_status(directory) is None
    again = HubLock(directory)
    again.take()
    again.release()


def test_a_killed_hubs_process_id_is_never_signalled(directory, signals):
    directory.status.write_text(json.dumps({"pid": 1}))
    assert tell_running_hub(directory), "none runs: there is nobody to tell"
    assert signals == []

    lock = HubLock(directory)
    lock.take()
    assert read_status(directory) is None, "the new hub does not keep what the killed one said"
    lock.release()


def test_a_hub_that_is_starting_is_told_once_it_listens(directory, signals):
    lock = HubLock(directory)
    lock.take()
    told = []
    teller = threading.Thread(target=lambda: told.append(tell_running_hub(directory)))
    teller.start()
    lock.say({})
    teller.join(20)
    lock.release()

    assert told == [True]
    assert signals == [(os.getpid(), signal.SIGHUP)]


def test_a_hub_that_can_not_be_told_is_said(directory, monkeypatch):
    monkeypatch.setattr(data_directory, "_HUB_STARTS_S", 0.0)
    lock = HubLock(directory)
    lock.take()

    assert tell_running_hub(directory) is False
    lock.release()
