"""Gradual learning: phases, their stages, epochs of them, and one update."""
