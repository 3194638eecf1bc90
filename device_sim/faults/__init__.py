"""Faults that can begin and end while modules run; each says what the wire shows."""
