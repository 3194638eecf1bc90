"""The native engine: our own MQTT 3.1.1 and 5.0 broker on asyncio."""
