"""Where a run starts: which checkpoint, which tokens, and which models a comparison has."""
