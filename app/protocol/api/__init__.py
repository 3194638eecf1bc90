"""The shapes that travel over the HTTP API, for the hub that answers and for the console that asks."""
