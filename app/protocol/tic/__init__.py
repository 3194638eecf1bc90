"""The customer output (TIC) of French meters, bytes to readings and back: pure, no I/O.

`groups` cuts a stream into groups and checks them, `frames` collects groups into frames, `readings` makes readings of
frames, `encode` is the way back for tests and the simulator.
"""
