"""Token ids in, logits out."""
