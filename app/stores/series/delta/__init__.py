"""Delta tables with one writer: our own Parquet and log entries, synced in the right order."""
