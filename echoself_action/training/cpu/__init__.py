"""Training on all cores of a CPU."""
