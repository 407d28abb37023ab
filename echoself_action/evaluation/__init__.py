"""Is it better? Held-out loss, and text to look at."""
