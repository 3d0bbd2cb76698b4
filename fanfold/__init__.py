"""Meta-learning over a Dask cluster: meta-batches fanned out over workers, and folded into one meta-gradient."""
