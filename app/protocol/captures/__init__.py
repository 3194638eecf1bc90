"""Captures: what kind of file somebody recorded, and the messages of MQTT logs. Pure; the bytes are handed in."""
