"""MQTT control packets as pure functions over bytes."""
