"""The model folder on disk: written atomically, validated when it is read, selected by step or loss."""
