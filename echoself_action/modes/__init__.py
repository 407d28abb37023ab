"""The modes: each file is one use case, readable from top to bottom."""
