"""The common parts of the commands: configuration, flags, exit status, listeners, results."""
