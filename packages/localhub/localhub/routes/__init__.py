"""The Hub's endpoints, a file a subject. Each offers `routes`."""
