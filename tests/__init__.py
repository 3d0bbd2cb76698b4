"""Tests compute on one thread, and so do the processes that they start, which is set before PyTorch is imported.

Threads of several tests at a time wait for each other: small tensors took up to ten times as long.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
