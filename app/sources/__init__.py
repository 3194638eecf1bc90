"""Where readings come from, beside our own modules over MQTT."""
