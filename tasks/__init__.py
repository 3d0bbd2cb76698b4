"""Few-shot tasks, networks and meta-learning algorithms. Knows nothing of Dask."""
