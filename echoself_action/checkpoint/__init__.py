"""The model folder on disk: written whole, read checked, found again."""
