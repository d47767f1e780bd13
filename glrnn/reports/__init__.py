"""Pages and event files about runs: curves, tables, samples, what repeats a run."""
