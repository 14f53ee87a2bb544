"""Tamis: from raw text to training data for language models."""
