"""Where readings come from: our own modules over MQTT, meters on serial ports, later other people's modules."""
