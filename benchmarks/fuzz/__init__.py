"""Damaged and odd input by machine: each is read as it was written, or refused in one line with status 2."""
