"""How well a model predicts a text, and what is tuned on a validation set."""
