"""The ground floor: what every other room may use, and nothing of theirs."""
