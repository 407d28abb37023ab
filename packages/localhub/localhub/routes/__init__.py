"""The Hub's endpoints, one module per subject, each with a list `routes`."""
