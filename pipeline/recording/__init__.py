"""What keeps what happens in a run: its directory, TensorBoard, MLflow, the terminal."""
