"""Backups of a data directory: making them beside a running hub, verifying, restoring (docs/decisions/0007)."""
