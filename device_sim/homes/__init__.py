"""Homes that behave: seeded households, their appliances second by second, weather, tariffs and the sun."""
