"""Choosing documents: splits, and importance resampling."""
