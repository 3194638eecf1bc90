"""Simulated modules that speak the real wire, and the load benches. Qt-free."""
