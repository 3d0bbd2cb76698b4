"""Recorders of runs: the run directory, TensorBoard, MLflow, Weights & Biases, the terminal."""
