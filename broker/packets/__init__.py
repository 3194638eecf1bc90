"""MQTT control packets (3.1.1 and 5.0) as pure functions over bytes."""

from broker.packets.acks import Ack
from broker.packets.connect import Connack, Connect, Will
from broker.packets.control import PINGREQ_BYTES, PINGRESP_BYTES, Auth, Disconnect, Ping
from broker.packets.errors import ProtocolError, Reason
from broker.packets.kinds import V5, V311
from broker.packets.properties import NO_PROPERTIES, Properties
from broker.packets.publish import Publish, PublishTemplate
from broker.packets.stream import Packet, PacketReader, decode, encode, read_header
from broker.packets.subscribe import Suback, Subscribe, Subscription, Unsuback, Unsubscribe

__all__ = [
    "NO_PROPERTIES",
    "PINGREQ_BYTES",
    "PINGRESP_BYTES",
    "V5",
    "V311",
    "Ack",
    "Auth",
    "Connack",
    "Connect",
    "Disconnect",
    "Packet",
    "PacketReader",
    "Ping",
    "Properties",
    "ProtocolError",
    "Publish",
    "PublishTemplate",
    "Reason",
    "Suback",
    "Subscribe",
    "Subscription",
    "Unsuback",
    "Unsubscribe",
    "Will",
    "decode",
    "encode",
    "read_header",
]
