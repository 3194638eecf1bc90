"""Examines a data directory and the machine under it; changes nothing, beside a hub or without one."""
