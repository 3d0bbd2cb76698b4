"""The benchmark's suite `scale`: simulated workers, measurements on them, and a cost model.

The scheduler, Dask's workers, the graph, the gang, the folds and the steps are real. A sleep replaces the computation
of a chunk, so one machine can carry many workers.
"""
