"""The registries of each kind, for services that stand on one."""

from __future__ import annotations

from tests.app.stores.registry.conftest import clock, postgres_cluster, postgres_url, registry, registry_url

__all__ = ["clock", "postgres_cluster", "postgres_url", "registry", "registry_url"]
