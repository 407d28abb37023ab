"""The Hub's endpoints, one module per subject, each with a list `routes`; those of sites.py are on a host of their own."""
