"""Every kind of fault, one at a time: `python -m benchmarks.faults`."""
