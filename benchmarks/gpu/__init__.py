"""The parts of `benchmarks.gpu_check`: each measures one thing on a CUDA device."""
