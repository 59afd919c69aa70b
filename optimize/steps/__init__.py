"""One file for each transformation of a candidate."""
