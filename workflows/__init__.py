"""The commands: `fanfold NAME --help`, or in a clone `python -m workflows.NAME --help`."""
