"""What becomes an event: connections, births, log lines, steps of the signal, pairings."""
