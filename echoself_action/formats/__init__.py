"""Checkpoints that other programs wrote as pickles: read without running a thing, or refused in one sentence."""
