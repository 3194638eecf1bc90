"""Wires the hub process: settings, start, stop, supervision."""
