"""The layers' operations in PyTorch: they run everywhere."""
