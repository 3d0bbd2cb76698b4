"""What a GPU computes tasks with: kernels, images on the device, captured graphs."""
