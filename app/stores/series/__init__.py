"""The time series: an interface, and its implementation on Delta tables."""
