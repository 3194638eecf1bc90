"""Who and what: credentials, modules, channels, sites, pairings, keys."""
