"""Questions with expected answers: read, asked of a model, scored without a judge model, and compared between models."""
