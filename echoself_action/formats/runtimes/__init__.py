"""Models as files for the programs that run them: written, run there, and compared with their model."""
