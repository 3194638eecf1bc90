"""From packet to journal: decode, stamp, batch, live state."""
