"""The HTTP API: thin routes over what the hub knows."""
