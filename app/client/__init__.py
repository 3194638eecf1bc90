"""What a console uses to reach a hub: no Qt, no asyncio; imports app.protocol and app.domain, and Python alone."""
