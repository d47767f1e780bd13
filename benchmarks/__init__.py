"""Timings against PyTorch, both sides in one run; never part of the tests."""
