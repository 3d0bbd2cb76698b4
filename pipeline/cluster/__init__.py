"""Dask clusters: started here or joined, their GPUs, and waiting for what they compute."""
