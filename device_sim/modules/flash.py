"""What a module keeps without power: settings, the ids of commands, two slots of firmware, a download half done."""

from __future__ import annotations

import collections
import dataclasses

from app.protocol.messages import Ack

# docs/protocol.md: 32 are enough.
IDS_KEPT = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """A firmware; `flaws` is what is wrong with it, see `device_sim.modules.image`."""

    version: str
    flaws: frozenset[str] = frozenset()


@dataclasses.dataclass(slots=True)
class Update:
    """An update under way; survives reboots until it is told how it ended."""

    command_id: str
    job: str
    url: str
    sha256: str
    signature: str
    to_firmware: str
    from_firmware: str
    total_bytes: int | None = None
    received: bytearray = dataclasses.field(default_factory=bytearray)
    etag: str | None = None
    # The new slot was started and has not proven itself.
    on_trial: bool = False
    boots: int = 0
    error: str | None = None
    detail: str = ""


@dataclasses.dataclass(slots=True)
class Flash:
    """Survives reboots and power cuts."""

    period_ms: int
    qos: int
    secret: str
    # PEM-less: the 32 bytes of the ed25519 key that images are signed with.
    public_key: bytes | None = None
    slots: list[Slot | None] = dataclasses.field(default_factory=lambda: [Slot("2.4.1"), None])
    active: int = 0
    answers: collections.OrderedDict[str, Ack] = dataclasses.field(default_factory=collections.OrderedDict)
    # The reboot that was ordered, to be answered `done` after it.
    rebooting_for: str | None = None
    update: Update | None = None

    @property
    def firmware(self) -> Slot:
        """What runs."""
        slot = self.slots[self.active]
        assert slot is not None, "the active slot holds a firmware"
        return slot

    def remember(self, ack: Ack) -> None:
        """Keep the last answer to a command, of the newest few."""
        self.answers[ack.id] = ack
        self.answers.move_to_end(ack.id)
        while len(self.answers) > IDS_KEPT:
            self.answers.popitem(last=False)

    def install(self, slot: Slot) -> None:
        """Write a firmware into the slot that does not run, and start from it next time, on trial."""
        self.slots[1 - self.active] = slot
        self.active = 1 - self.active

    def roll_back(self) -> None:
        """Start from the other slot again; needs no download."""
        assert self.slots[1 - self.active] is not None
        self.active = 1 - self.active
