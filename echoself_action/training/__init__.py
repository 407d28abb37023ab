"""Training: batches, learning-rate schedule, optimizers, the training loop, and the state to resume from."""
