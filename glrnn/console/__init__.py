"""What a command line wraps around its work: progress, tables, Ctrl-C."""
