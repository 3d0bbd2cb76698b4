"""The names of runs that come with the package."""

SHIPPED = "fanfold:"
"""How they begin, in place of a run directory."""
