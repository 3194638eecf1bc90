"""From the settings of an external broker to what its engine connects with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from app.domain.errors import OperatorInputError
from app.domain.settings import ExternalSettings
from app.hub.external_broker import OUR_TOPICS, upstream_of
from tests.helpers.tls_files import make_tls_files


def test_a_url_is_enough_and_the_name_of_the_directory_stays(tmp_path):
    one = upstream_of(ExternalSettings(url="mqtts://hub:s%40cret@broker"), tmp_path / "one")
    again = upstream_of(ExternalSettings(url="mqtt://broker:2000"), tmp_path / "one")
    other = upstream_of(ExternalSettings(url="mqtt://broker"), tmp_path / "other")

    assert (one.host, one.port, one.tls, one.username, one.password) == ("broker", 8883, True, "hub", "s@cret")
    assert (again.port, again.tls, again.username, again.password) == (2000, False, None, None)
    assert one.client_id == again.client_id != other.client_id
    assert one.session_expiry_s == 7 * 86_400
    assert "s@cret" not in repr(one)


def test_a_password_comes_from_a_file_and_every_setting_arrives(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("geheim\nnot this\n")
    files = make_tls_files(tmp_path)
    settings = ExternalSettings(
        url="mqtts://other:x@broker",
        username="hub",
        password_file=str(secret),
        ca_file=str(files.certificate),
        certificate=str(files.certificate),
        key=str(files.key),
        client_id="town",
        consumers=3,
        shared_group="standby",
        session_hours=2.0,
    )
    found = dataclasses.asdict(upstream_of(settings, tmp_path))

    assert found == {
        "host": "broker",
        "port": 8883,
        "tls": True,
        "username": "hub",
        "password": "geheim",
        "ca_file": files.certificate,
        "certificate": files.certificate,
        "key": files.key,
        "client_id": "town",
        "consumers": 3,
        "shared_group": "standby",
        "session_expiry_s": 7200,
        "keep_alive_s": 60,
    }


@pytest.mark.parametrize("text", [None, "", "\n"])
def test_a_file_without_a_password_is_said(tmp_path, text):
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text)
    with pytest.raises(OperatorInputError, match="password_file"):
        upstream_of(ExternalSettings(url="mqtt://broker", password_file=str(path)), tmp_path)


def test_files_of_tls_are_looked_at_before_the_start(tmp_path):
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for path in (bad, Path("/nowhere.pem")):
        with pytest.raises(OperatorInputError, match="ca_file"):
            upstream_of(ExternalSettings(url="mqtts://broker", ca_file=str(path)), tmp_path)


def test_the_hub_hears_everything_of_its_modules_but_its_own_commands():
    assert "wd/v1/m/+/tele" in OUR_TOPICS
    assert not any(topic.endswith(("cmd", "#")) for topic in OUR_TOPICS)
