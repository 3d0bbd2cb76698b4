"""Resident images, prefetched tasks and CUDA graphs, for a GPU."""
