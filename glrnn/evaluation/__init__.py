"""Evaluation of a model on a text, and tuning on a validation set."""
