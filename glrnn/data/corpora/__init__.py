"""The named corpora, one module each, imported only when they are loaded."""
