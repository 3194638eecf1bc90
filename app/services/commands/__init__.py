"""Remote commands to modules: queued in the registry, delivered when the module listens, answered or expired."""
