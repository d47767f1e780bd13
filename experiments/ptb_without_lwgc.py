"""The best model of Penn Treebank without layer-wise clipping: 26,390,840 parameters.

Table 3 of Aharoni, Rattner and Permuter (2017), "w/o LWGC": one limit for the norm of
the whole gradient, 0.2179, 0.2585 and 0.3084 in the three phases.

    python -m glrnn.train experiments/ptb_without_lwgc.py --data DIR

The paper's perplexities, valid and test: 56.32 and 54.09; finetuning did not help.
"""

from ptb import config as best

from glrnn.config.variants import without_lwgc

config = without_lwgc(best)
