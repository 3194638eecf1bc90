"""The pinned PySide6 leaves the reference count of None alone (6.12.0 on Python 3.11 does not)."""

import sys

import pytest
from PySide6.QtCore import QLineF
from PySide6.QtGui import QImage, QPainter


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None is immortal since Python 3.12: it has no count")
def test_thousands_of_painter_calls_do_not_spend_none(qapp):
    image = QImage(64, 64, QImage.Format.Format_ARGB32)
    painter = QPainter(image)
    line = QLineF(0, 0, 63, 63)
    before = sys.getrefcount(None)
    for _ in range(5000):
        painter.drawLine(line)
    after = sys.getrefcount(None)
    painter.end()

    assert abs(after - before) < 100
