"""Optax transforms, for the projects of others too: clipping, averaging, rates."""
