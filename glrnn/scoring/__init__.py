"""A trained model in use: its probabilities, token by token."""
