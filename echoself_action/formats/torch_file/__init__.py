"""Reads `torch.save` files without executing any code in them."""
