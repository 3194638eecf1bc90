"""Benches of the stores."""
