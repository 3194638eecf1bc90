"""The tree of subscriptions and that of retained messages against the plain definition of a match."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.native.message import Message
from broker.native.retained import RetainedMessages
from broker.native.session import Session
from broker.native.subscriptions import BUCKETS, Granted, Subscriptions, bucket_of
from broker.packets.topics import is_filter, matches

levels = st.sampled_from(("a", "b", "", "$x"))
names = st.lists(levels, min_size=1, max_size=6).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(levels | st.just("+"), max_size=6), st.booleans())
    .map(lambda pair: "/".join([*pair[0], "#"] if pair[1] else pair[0]))
    .filter(is_filter)
)


@given(st.lists(st.tuples(filters, st.integers(0, 2)), max_size=12), st.data(), names)
def test_the_tree_finds_what_the_definition_finds(wanted, data, topic):
    tree = Subscriptions()
    kept: dict[Session, Granted] = {}
    for number, (pattern, qos) in enumerate(wanted):
        session = Session(str(number), "")
        granted = Granted(pattern, qos)
        tree.add(session, granted)
        kept[session] = granted
    for session in (
        data.draw(st.lists(st.sampled_from(sorted(kept, key=lambda item: item.client_id)), unique=True)) if kept else []
    ):
        tree.remove(session, kept.pop(session))
    found = {target.session: target.qos for target in tree.match(topic).targets}

    assert found == {session: granted.qos for session, granted in kept.items() if matches(granted.pattern, topic)}
    assert tree.count == len(kept)


@given(st.lists(filters, max_size=12))
def test_what_is_removed_leaves_nothing(wanted):
    tree = Subscriptions()
    session = Session("c", "")
    for pattern in wanted:
        for group in (None, "g"):
            tree.add(session, Granted(pattern, 0, group=group))
    for pattern in wanted:
        for group in (None, "g"):
            tree.remove(session, Granted(pattern, 0, group=group))

    assert tree.count == 0
    assert tree._root.empty
    assert not tree._exact


@given(filters, names)
def test_every_change_reaches_the_bucket_of_the_topics_it_concerns(pattern, topic):
    tree = Subscriptions()
    before = list(tree.generations)
    tree.add(Session("c", ""), Granted(pattern, 0))

    assert len(tree.generations) == BUCKETS
    if matches(pattern, topic):
        assert tree.generations[bucket_of(topic)] != before[bucket_of(topic)]


@given(st.lists(names, unique=True), filters, st.data())
def test_retained_messages_are_found_as_defined(topics, pattern, data):
    tree = RetainedMessages()
    for topic in topics:
        tree.put(Message(topic, b"old"))
        tree.put(Message(topic, b"payload"))
    gone = data.draw(st.lists(st.sampled_from(topics), unique=True)) if topics else []
    for topic in gone:
        assert tree.remove(topic)
        assert not tree.remove(topic)
    left = [topic for topic in topics if topic not in gone]

    assert sorted(item.topic for item in tree.match(pattern)) == sorted(t for t in left if matches(pattern, t))
    assert tree.count == len(left)
    assert tree.size == sum(len(topic) + 7 for topic in left)
    assert all(tree.get(topic) is not None for topic in left)


def test_an_emptied_tree_of_retained_messages_is_empty():
    tree = RetainedMessages()
    tree.put(Message("a/b/c", b"x"))
    tree.remove("a/b/c")

    assert tree._root.children is None
