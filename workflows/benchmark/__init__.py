"""What `python -m workflows.benchmark` measures."""
