"""Modules that behave: real clients of the native protocol, on real sockets."""
