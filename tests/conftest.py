"""What every test stands on."""

import os

import hypothesis

# Before any Qt import: tests draw without a screen.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

# A busy machine is no failure. Under CI Hypothesis has a profile of its own, which also has no deadline.
if "CI" not in os.environ:
    hypothesis.settings.register_profile("no deadline", deadline=None)
    hypothesis.settings.load_profile("no deadline")
