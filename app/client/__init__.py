"""What a console uses to reach a hub: no Qt, no asyncio. It stands on app.protocol and app.domain alone."""
