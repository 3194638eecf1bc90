"""Settings come from four sources in rising priority, and every mistake names its source and key."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.settings import Settings, catalogue
from app.hub.configuration import SettingError, load_settings

ENVIRONMENT = {"PATH": "/usr/bin", "WATTDECK_INGEST_COMMIT_MS": "300"}


def write(folder: Path, text: str) -> Path:
    (folder / "wattdeck.toml").write_text(text)
    return folder


def test_defaults_without_any_source(tmp_path):
    assert load_settings(tmp_path, environment={}) == Settings()


def test_each_source_overrides_the_one_before(tmp_path):
    write(tmp_path, "[ingest]\ncommit_ms = 200\nsegment_mb = 32\n[listen]\nmqtt_port = 1\napi_port = 2\n")

    settings = load_settings(
        tmp_path,
        environment=ENVIRONMENT | {"WATTDECK_LISTEN_MQTT_PORT": "3", "WATTDECK_LISTEN_API_PORT": "4"},
        flags={"listen.mqtt_port": 5, "listen.api_port": 6, "serial.url": None},
        assignments=["listen.mqtt_port=7"],
    )

    assert settings.ingest.segment_mb == 32  # file
    assert settings.ingest.commit_ms == 300  # environment over file
    assert settings.listen.api_port == 6  # flag over environment
    assert settings.listen.mqtt_port == 7  # --set over flag
    assert not settings.serial.url  # a flag that was not given says nothing


@pytest.mark.parametrize("text", ['["test/nosubscribe"]', "test/nosubscribe", '[ "test/nosubscribe" ]'])
def test_lists_may_be_toml_or_words(tmp_path, text):
    settings = load_settings(tmp_path, environment={}, assignments=[f"broker.refuse_subscribe = {text}"])

    assert settings.broker.refuse_subscribe == ("test/nosubscribe",)


def test_an_unknown_key_names_source_and_the_nearest_key(tmp_path):
    write(tmp_path, "[ingest]\ncomit_ms = 200\n")

    with pytest.raises(
        SettingError, match=r"wattdeck\.toml: ingest\.comit_ms: is no setting; did you mean ingest\.commit_ms\?"
    ):
        load_settings(tmp_path, environment={})


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("ingest.commit_ms=5", "a whole number from 10 to 5000"),
        ("ingest.commit_ms=5001", "a whole number from 10 to 5000"),
        ("ingest.commit_ms=2.5", "a whole number from 10 to 5000"),
        ("ingest.commit_ms=true", "a whole number"),
        ("ingest.commit_ms=soon", "'soon' is not allowed"),
        ("store.lease_minutes=nan", "a number from 0 to 1440"),
        ("hub.engine=emqx", "one of native, amqtt, external"),
        ("broker.allow_anonymous=perhaps", "true or false"),
        ("broker.refuse_subscribe=[1]", "a list of texts"),
        ("ingest.commit_ms", "must be KEY=VALUE"),
    ],
)
def test_a_bad_value_says_what_is_allowed(tmp_path, assignment, message):
    with pytest.raises(SettingError) as raised:
        load_settings(tmp_path, environment={}, assignments=[assignment])

    assert message in raised.value.text()
    assert raised.value.text().startswith("--set: ")


def test_bad_environment_names_the_variable(tmp_path):
    with pytest.raises(SettingError, match="environment WATTDECK_INGEST_COMMIT_MS"):
        load_settings(tmp_path, environment={"WATTDECK_INGEST_COMMIT_MS": "x"})
    with pytest.raises(SettingError, match=r"WATTDECK_INGEST_COMIT_MS: is no setting"):
        load_settings(tmp_path, environment={"WATTDECK_INGEST_COMIT_MS": "200"})


@pytest.mark.parametrize("text", ["[ingest", "\xff\xfe", "commit_ms = 3"])
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / "wattdeck.toml").write_bytes(text.encode("latin-1"))

    with pytest.raises(SettingError, match=r"wattdeck\.toml"):
        load_settings(tmp_path, environment={})


def test_every_default_lies_in_its_own_range():
    for row in catalogue().values():
        if row.minimum is not None:
            assert row.default >= row.minimum, row.key
        if row.maximum is not None:
            assert row.default <= row.maximum, row.key
        if row.choices:
            assert row.default in row.choices, row.key


def test_every_setting_has_its_sentence_and_stands_in_the_documentation():
    page = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
    for row in catalogue().values():
        assert row.doc, row.key
        assert f"`{row.key}`" in page, row.key


@given(st.sampled_from(sorted(catalogue())), st.text(max_size=20))
def test_no_text_raises_anything_but_a_setting_error(tmp_path_factory, key, text):
    folder = tmp_path_factory.getbasetemp()
    with contextlib.suppress(SettingError):
        settings = load_settings(folder, environment={}, assignments=[f"{key}={text}"])
        section, name = key.split(".")
        assert getattr(getattr(settings, section), name) is not None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("store.time_zone=Mars/Phobos", "'Mars/Phobos' is no time zone"),
        ("tls.certificate=server.pem", "tls.certificate is set and tls.key is not"),
        ("tls.key=server.key", "tls.key is set and tls.certificate is not"),
        ("listen.api_host=", "an empty host would serve everybody"),
    ],
)
def test_what_can_not_work_is_refused_at_the_start(tmp_path, assignment, message):
    with pytest.raises(SettingError, match=message) as raised:
        load_settings(tmp_path, environment={}, assignments=[assignment])

    assert raised.value.source == "--set"


def test_an_external_broker_must_be_named(tmp_path):
    with pytest.raises(SettingError, match=r"external\.url: hub\.engine is external and no broker is named"):
        load_settings(tmp_path, environment={}, flags={"hub.engine": "external"})


@pytest.mark.parametrize(
    ("assignment", "key"),
    [
        ("external.url=mqtt://hub:geheim@", "external.url"),
        ("external.url=mqtt://hub:geheim@host:0", "external.url"),
        ("hub.engine=mqtt://hub:geheim@host", "hub.engine"),
        ("external.topics=a/#/b", "external.topics"),
        ("external.shared_group=a/b", "external.shared_group"),
        ("external.certificate=x.pem", "external.key"),
        ("external.consumers=0", "external.consumers"),
    ],
)
def test_a_mistake_about_a_broker_names_its_key_and_no_password(tmp_path, assignment, key):
    with pytest.raises(SettingError) as mistake:
        load_settings(tmp_path, environment={}, assignments=[assignment])

    assert mistake.value.key == key
    assert "geheim" not in mistake.value.text()
