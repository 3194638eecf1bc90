"""A dialect of modules of others that does what a test needs, on `fake/<device>/<what>` with JSON."""

from __future__ import annotations

import msgspec

from app.domain.reading import Reading
from app.protocol.dialects import Dialects
from app.protocol.foreign import Facts, Heard, Presence, Refusal, Sending
from app.protocol.messages import Ack, Fota, Log

_KINDS = {"read": Reading, "facts": Facts, "log": Log, "fota": Fota, "ack": Ack}


class FakeDialect:
    """`online` has true or false as bare text, `part` a reading that waits for `due`, `bug` makes it fail.

    A topic `named/<anything>` is claimed from the moment on that some device has said so with `fake/<device>/claim`.
    Knows the command `reboot` for devices whose id does not begin with `dumb`.
    """

    name = "fake"
    filters = ("fake/#", "named/#")

    def __init__(self):
        self.claimed = {}
        self.waiting = []
        self.forgotten = []
        self.retained = []

    def claims(self, topic):
        return (topic.startswith("fake/") and topic.count("/") == 2) or topic in self.claimed

    def take(self, topic, payload, *, retained, arrival_us):
        del arrival_us
        if topic in self.claimed:
            return self._decoded(self.claimed[topic], "read", payload, retained)
        _, device, what = topic.split("/")
        self.retained.append(retained)
        if what == "bug":
            raise RuntimeError("a bug of the dialect")
        if what == "claim":
            self.claimed[payload.decode()] = device
            return [Heard(device, Facts(name=device))]
        if what == "online":
            return [Heard(device, Presence(payload == b"true"))]
        if what == "part":
            heard = self._decoded(device, "read", payload, retained)
            self.waiting += [one for one in heard if not isinstance(one.what, Refusal)]
            return [one for one in heard if isinstance(one.what, Refusal)]
        if what == "stranger":
            return [Heard("", Refusal("syntax", "nobody knows whose"))]
        return self._decoded(device, what, payload, retained)

    def due(self, arrival_us):
        del arrival_us
        waiting, self.waiting = self.waiting, []
        return waiting

    def send(self, device, command):
        if command.name != "reboot" or device.startswith("dumb"):
            return None
        return [
            Sending(f"fake-cmnd/{device}/prepare", b"", qos=0),
            Sending(f"fake-cmnd/{device}/reboot", command.id.encode()),
        ]

    def forget(self, device):
        self.forgotten.append(device)

    def _decoded(self, device, what, payload, retained):
        try:
            decoded = msgspec.json.decode(payload, type=_KINDS[what])
        except (msgspec.DecodeError, KeyError, UnicodeDecodeError) as error:
            return [Heard(device, Refusal("syntax", str(error)[:80]))]
        return [] if retained and what == "read" else [Heard(device, decoded)]


def fake_dialects(dialect=None) -> Dialects:
    """The fake as the only one."""
    return Dialects([dialect or FakeDialect()])
