"""Stories: a fleet, faults at their times, and what the platform must then show."""
