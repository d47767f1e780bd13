"""The best model of Penn Treebank, all layers at once: 26,390,840 parameters.

Table 3 of Aharoni, Rattner and Permuter (2017), "w/o GL": the settings of the last
phase for as many epochs as all phases have.

    python -m glrnn.train experiments/ptb_without_gl.py --data DIR

The paper's perplexities, valid and test: 55.43 and 53.70. It does not say how many
epochs there were, and whether they include finetuning.
"""

from ptb import config as best

from glrnn.config.variants import without_gl

config = without_gl(best)
