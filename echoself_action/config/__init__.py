"""The inputs: declared once, loaded, validated and documented."""
