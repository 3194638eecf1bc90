"""Icons, fonts, styles, translations and default catalogues, read through importlib.resources."""
