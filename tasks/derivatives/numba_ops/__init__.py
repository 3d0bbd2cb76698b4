"""The layers' operations on a CPU, compiled by Numba."""
