"""What computes a window of meta-iterations: each gives the same bits."""
