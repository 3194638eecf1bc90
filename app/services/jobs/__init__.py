"""Long work in the background: what kinds there are, and what runs them."""
