"""What is on disk of a run: its small files, its metrics, its checkpoints."""
