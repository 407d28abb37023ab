"""Checkpoint formats of other programs: imported without running code in their pickles, and exported."""
