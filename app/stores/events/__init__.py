"""What happened to modules: one SQLite file with one writer, and readers beside it."""
