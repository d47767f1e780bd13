"""Benchmarks: timings against PyTorch, and counts of compiled programs."""
