"""All of Qt. Stands on app.client, app.domain and resources; no asyncio, no store."""
