"""All the dialects of other people's modules together, in the order in which they are asked."""

from __future__ import annotations

from app.protocol.dialects import Dialects
from app.protocol.home_assistant import HomeAssistant
from app.protocol.shelly import Shelly
from app.protocol.shelly_gen1 import ShellyGen1
from app.protocol.tasmota import Tasmota


def all_dialects() -> Dialects:
    """A set of them with no device known yet; the generic one is last, and leaves alone what another one claims."""
    own_topics = (Tasmota(), Shelly(), ShellyGen1())

    def claimed_elsewhere(topic: str) -> bool:
        return any(dialect.claims(topic) for dialect in own_topics)

    return Dialects((*own_topics, HomeAssistant(claimed_elsewhere=claimed_elsewhere)))
