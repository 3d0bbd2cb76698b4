"""What one few-shot task is, and what a worker computes on it. Knows nothing of Dask."""
