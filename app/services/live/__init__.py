"""The live feed: pictures of the fleet, events and readings as they happen, for those who hold a grant."""
