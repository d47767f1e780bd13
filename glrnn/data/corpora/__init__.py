"""Where the named corpora come from: one module a corpus, imported only when asked."""
