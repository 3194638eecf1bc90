"""The golden examples of every message: what `docs/protocol.md` shows, the tests decode and the benches send."""

from __future__ import annotations

import importlib.resources

# One file each in resources/protocol: compact JSON as it travels, or CBOR written in hexadecimal.
JSON_EXAMPLES = (
    "tele",
    "tele_full",
    "tele_catch_up",
    "state",
    "state_will",
    "log",
    "diag",
    "fota",
    "cmd",
    "ack",
)
CBOR_EXAMPLES = ("tele",)


def golden(name: str) -> bytes:
    """The payload of a golden example in JSON, exactly as a module sends it; FileNotFoundError for no example."""
    return _text(f"{name}.json").strip().encode()


def golden_cbor(name: str) -> bytes:
    """The payload of a golden example in CBOR."""
    return bytes.fromhex(_text(f"{name}.cbor.hex"))


def _text(file_name: str) -> str:
    return importlib.resources.files("resources").joinpath("protocol", file_name).read_text(encoding="utf-8")
