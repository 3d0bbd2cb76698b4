"""What the workflow `benchmark` can measure, a suite a module."""
