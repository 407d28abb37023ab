"""What is known before a run: whether it can start, and what it would do. Nothing is trained, and nothing is written."""
