"""All dialects together: who is asked first, and what is left to the generic one."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest


class _Stub:
    name = ""
    filters = ()

    def __init__(self, **options):
        self.options = options

    def claims(self, topic):
        return topic.startswith(self.name)


@pytest.fixture
def all_dialects(monkeypatch):
    """The function, on stubs of the dialects' classes: their own tests are of what they say."""
    for module, name in (
        ("tasmota", "Tasmota"),
        ("shelly", "Shelly"),
        ("shelly_gen1", "ShellyGen1"),
        ("home_assistant", "HomeAssistant"),
    ):
        stub = ModuleType(f"app.protocol.{module}")
        setattr(stub, name, type(name, (_Stub,), {"name": module}))
        monkeypatch.setitem(sys.modules, f"app.protocol.{module}", stub)
    monkeypatch.delitem(sys.modules, "app.protocol.all_dialects", raising=False)
    module = importlib.import_module("app.protocol.all_dialects")
    yield module.all_dialects
    sys.modules.pop("app.protocol.all_dialects", None)


def test_the_generic_dialect_is_last_and_leaves_alone_what_others_claim(all_dialects):
    dialects = all_dialects()
    generic = dialects.named("home_assistant")

    assert [dialect.name for dialect in dialects._dialects] == ["tasmota", "shelly", "shelly_gen1", "home_assistant"]
    assert generic.options["claimed_elsewhere"]("shelly/status/em:0")
    assert not generic.options["claimed_elsewhere"]("home_assistant/sensor/x/config")


def test_each_call_knows_no_device_yet(all_dialects):
    first, second = all_dialects(), all_dialects()

    assert first.named("tasmota") is not second.named("tasmota")
