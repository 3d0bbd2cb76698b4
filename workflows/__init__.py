"""What people run: `python -m workflows.NAME --help`."""
