"""Publish model folders to the Hugging Face Hub, and download them."""
