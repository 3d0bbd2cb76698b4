"""Hundreds of random faults over one run, see `benchmarks.soak.__main__`."""
