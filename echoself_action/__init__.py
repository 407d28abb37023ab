"""Train GPT-2 models on a repository's own text, publish them to the Hugging Face Hub, and resume training from there."""
