"""Operators, their sessions, and API tokens."""
