"""What the layers for several tasks at once compute with on a CPU."""
