"""What the platform does with what it knows: people, fleet, commands, jobs, backups. No HTTP, no Qt."""
