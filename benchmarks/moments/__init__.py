"""Faults at exact moments: `python -m benchmarks.moments`."""
