"""A simulated Linky meter: its state, its frames and the line it speaks on."""
