"""MQTT, and nothing of meters. Qt-free; imports nothing of ours."""
