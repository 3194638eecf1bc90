"""Where data are kept: journal, series store, registry. One writer each."""
