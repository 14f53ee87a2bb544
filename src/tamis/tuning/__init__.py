"""Tuning: rows of prompts and completions, and models tuned on them."""
