"""Plays what somebody recorded: logs of MQTT messages to a broker, dumps of a meter's line to a line."""
