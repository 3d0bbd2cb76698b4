"""The suites of `python -m workflows.benchmark`."""
