"""The write-ahead journal: what is synced here has been promised."""
