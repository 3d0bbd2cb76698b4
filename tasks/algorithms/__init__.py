"""The algorithms, one a file, and their registry."""
