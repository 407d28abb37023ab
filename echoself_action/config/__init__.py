"""The inputs and outputs: declared once, loaded, validated and documented."""
