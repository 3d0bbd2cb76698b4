"""Recorders of runs: the run directory, TensorBoard, MLflow, the terminal."""
