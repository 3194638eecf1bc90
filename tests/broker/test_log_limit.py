"""Lines that strangers cause are few and harmless."""

from __future__ import annotations

from broker.log_limit import LogLimit, shown


def test_a_client_is_told_of_once_and_the_next_line_says_how_many_were_left_out():
    now = [0.0]
    limit = LogLimit(lambda: now[0])
    first = [limit.ending("denied", "a") for _ in range(3)]
    now[0] = 60.0

    assert first == ["", None, None]
    assert limit.ending("denied", "b") == " (and 2 more that were not logged)"
    assert limit.ending("denied", "c") == ""


def test_many_clients_share_ten_lines_of_a_kind():
    limit = LogLimit(lambda: 0.0)

    assert sum(limit.ending("denied", str(number)) is not None for number in range(50)) == 10
    assert limit.ending("other", "1") == ""


def test_what_strangers_send_is_escaped_and_cut():
    assert shown("a\nb\x1b") == r"'a\nb\x1b'"
    assert shown("x" * 100) == "'" + "x" * 80 + "'..."
