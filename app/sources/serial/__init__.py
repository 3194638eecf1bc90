"""A meter on a serial line: `line` makes readings of bytes, `reader` runs the port. No RTS/CTS: adapters drive none."""
