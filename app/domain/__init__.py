"""Pure data and rules of the platform: no I/O."""
