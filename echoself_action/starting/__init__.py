"""Where a run starts: which checkpoint, and which tokens."""
