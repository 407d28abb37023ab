"""Data parallelism over the cores of one CPU."""
