"""Model cards, dataset cards and the history chart."""
