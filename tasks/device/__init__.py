"""What lies and runs on a GPU: the images, the tasks drawn ahead, CUDA graphs."""
