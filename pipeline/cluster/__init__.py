"""Dask clusters, started here or joined: their workers, their GPUs, and the results of their tasks."""
