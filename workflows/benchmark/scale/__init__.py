"""What the benchmark's suite `scale` is made of: simulated workers, what is measured on them, and a model of its cost.

The scheduler, Dask's workers, the graph, the gang, the folds and the steps are the true ones; what a chunk computes is
replaced by a sleep, so that one machine can carry many workers.
"""
