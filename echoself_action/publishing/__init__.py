"""What a publish consists of."""
