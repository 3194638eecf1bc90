"""The registry's schema, version by version (Alembic scripts in `versions`), run by `app.stores.registry.migrating`."""
