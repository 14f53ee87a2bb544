"""Compiled kernels that walk UTF-8 bytes."""
