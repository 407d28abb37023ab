"""Publish a model: the quality gate, the files, the dataset, the signature, the upload, the tag and the release."""
