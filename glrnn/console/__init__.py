"""The terminal: progress, tables, options, Ctrl-C, compilation."""
