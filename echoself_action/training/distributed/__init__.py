"""Data-parallel and sharded training in several processes."""
