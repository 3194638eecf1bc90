"""Runs one of the Eclipse Paho suites as its own main program: python paho_suite.py client_test.py PORT

client_test.py reads its port from the command line, then leaves the line for unittest to stumble over; here unittest
gets a line of its own.
"""

from __future__ import annotations

import functools
import runpy
import sys
import unittest

suite, port = sys.argv[1:]
sys.path.insert(0, ".")
sys.argv = [suite, "-p", port]
unittest.main = functools.partial(unittest.main, argv=[suite])
runpy.run_path(suite, run_name="__main__")
