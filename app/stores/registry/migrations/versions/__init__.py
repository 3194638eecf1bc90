"""One file per version of the schema, `vNNNN_what.py`; a file that was released is never edited."""
