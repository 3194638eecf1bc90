"""Where everything on a module or a person is, and how each place forgets it."""
