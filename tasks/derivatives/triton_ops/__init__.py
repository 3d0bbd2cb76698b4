"""The layers' operations on a GPU, as Triton kernels."""
