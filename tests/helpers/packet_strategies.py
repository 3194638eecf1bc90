"""Hypothesis strategies for MQTT packets of both versions."""

from __future__ import annotations

from hypothesis import strategies as st

from broker.packets import (
    NO_PROPERTIES,
    V5,
    V311,
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Ping,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
    kinds,
)

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
topics = texts.map(lambda text: "t" + text.replace("+", "p").replace("#", "h"))
ids = st.integers(1, 65_535)
u16 = st.integers(0, 65_535)
u32 = st.integers(0, 2**32 - 1)
flags = st.integers(0, 1)
binaries = st.binary(max_size=30)
qos = st.integers(0, 2)
pairs = st.lists(st.tuples(texts, texts), max_size=3).map(tuple)
varints = st.integers(1, 268_435_455)


def optional(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[Properties]:
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: Properties(**values))


message = {
    "payload_format": flags,
    "message_expiry_s": u32,
    "content_type": texts,
    "response_topic": topics,
    "correlation_data": binaries,
    "user": pairs,
}
PROPERTIES = {
    "connect": optional(
        session_expiry_s=u32,
        receive_maximum=ids,
        maximum_packet_size=st.integers(1, 2**32 - 1),
        topic_alias_maximum=u16,
        request_response_information=flags,
        request_problem_information=flags,
        user=pairs,
        authentication_method=texts,
    ),
    "connack": optional(
        session_expiry_s=u32,
        receive_maximum=ids,
        maximum_qos=flags,
        retain_available=flags,
        maximum_packet_size=st.integers(1, 2**32 - 1),
        assigned_client_id=texts,
        topic_alias_maximum=u16,
        reason_string=texts,
        user=pairs,
        wildcard_available=flags,
        subscription_ids_available=flags,
        shared_available=flags,
        server_keep_alive_s=u16,
        response_information=texts,
        server_reference=texts,
        authentication_method=texts,
        authentication_data=binaries,
    ),
    "publish": optional(
        **message, topic_alias=ids, subscription_ids=st.lists(varints, min_size=1, max_size=3).map(tuple)
    ),
    "will": optional(**message, will_delay_s=u32),
    "ack": optional(reason_string=texts, user=pairs),
    "subscribe": optional(user=pairs, subscription_ids=varints.map(lambda number: (number,))),
    "unsubscribe": optional(user=pairs),
    "disconnect": optional(session_expiry_s=u32, reason_string=texts, user=pairs, server_reference=texts),
    "auth": optional(authentication_method=texts, authentication_data=binaries, reason_string=texts, user=pairs),
}


def props(name: str, version: int) -> st.SearchStrategy[Properties]:
    return PROPERTIES[name] if version == V5 else st.just(NO_PROPERTIES)


@st.composite
def connects(draw: st.DrawFn, version: int) -> Connect:
    username = draw(st.none() | texts)
    will = draw(
        st.none()
        | st.builds(
            Will,
            topic=topics,
            payload=binaries,
            qos=qos,
            retain=st.booleans(),
            properties=props("will", version),
        )
    )
    return Connect(
        client_id=draw(texts),
        version=version,
        clean_start=draw(st.booleans()),
        keep_alive_s=draw(u16),
        username=username,
        password=draw(st.none() | binaries) if username is not None or version == V5 else None,
        will=will,
        properties=draw(props("connect", version)),
    )


@st.composite
def publishes(draw: st.DrawFn, version: int) -> Publish:
    level = draw(qos)
    properties = draw(props("publish", version))
    empty = properties.topic_alias is not None and draw(st.booleans())
    return Publish(
        topic="" if empty else draw(topics),
        payload=draw(st.binary(max_size=300)),
        qos=level,
        retain=draw(st.booleans()),
        dup=draw(st.booleans()) if level else False,
        packet_id=draw(ids) if level else 0,
        properties=properties,
    )


def acks(version: int) -> st.SearchStrategy[Ack]:
    five = version == V5
    return st.builds(
        Ack,
        kind=st.sampled_from((kinds.PUBACK, kinds.PUBREC, kinds.PUBREL, kinds.PUBCOMP)),
        packet_id=ids,
        reason=st.sampled_from((0, 0x10, 0x87)) if five else st.just(0),
        properties=props("ack", version),
    )


def subscriptions(version: int) -> st.SearchStrategy[Subscription]:
    if version != V5:
        return st.builds(Subscription, texts, qos)
    return st.builds(Subscription, topics, qos, st.booleans(), st.booleans(), st.integers(0, 2))


def packets(version: int) -> st.SearchStrategy[Packet]:
    """Any packet that may be sent in this version."""
    five = version == V5
    choices: list[st.SearchStrategy[Packet]] = [
        connects(version),
        st.builds(
            Connack,
            session_present=st.booleans(),
            reason=st.integers(0, 255 if five else 5),
            properties=props("connack", version),
        ),
        publishes(version),
        acks(version),
        st.builds(
            Subscribe,
            packet_id=ids,
            subscriptions=st.lists(subscriptions(version), min_size=1, max_size=4).map(tuple),
            properties=props("subscribe", version),
        ),
        st.builds(Suback, packet_id=ids, reasons=st.binary(max_size=4), properties=props("ack", version)),
        st.builds(
            Unsubscribe,
            packet_id=ids,
            patterns=st.lists(texts, min_size=1, max_size=4).map(tuple),
            properties=props("unsubscribe", version),
        ),
        st.builds(
            Unsuback,
            packet_id=ids,
            reasons=st.binary(max_size=4) if five else st.just(b""),
            properties=props("ack", version),
        ),
        st.builds(Ping, st.booleans()),
        st.builds(
            Disconnect,
            reason=st.sampled_from((0, 4, 0x8E)) if five else st.just(0),
            properties=props("disconnect", version),
        ),
    ]
    if five:
        choices.append(st.builds(Auth, reason=st.sampled_from((0, 24)), properties=PROPERTIES["auth"]))
    return st.one_of(choices)


versions = st.sampled_from((V311, V5))
