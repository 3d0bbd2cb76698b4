"""What the commands share: configuration, flags, exit status, listeners, results."""
