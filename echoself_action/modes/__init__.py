"""One use case a file, readable from top to bottom."""
