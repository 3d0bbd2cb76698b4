"""How a run is spread over a Dask cluster. Knows nothing of any one algorithm."""
