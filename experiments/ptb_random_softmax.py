"""The best model of Penn Treebank with a new head in each phase: 26,390,840 parameters.

Section 4.2 of Aharoni, Rattner and Permuter (2017) leaves open whether a phase inherits
the weights of the softmax or begins with random ones; their code inherits them.

    python -m glrnn.train experiments/ptb_random_softmax.py --data DIR

No perplexities were published.
"""

from ptb import config as best

from glrnn.config.variants import random_softmax

config = random_softmax(best)
