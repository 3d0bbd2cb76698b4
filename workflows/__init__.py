"""The commands: `python -m workflows.NAME --help`."""
