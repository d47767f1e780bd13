"""The best model of Penn Treebank before it is finetuned: 26,390,840 parameters.

Table 1 of Aharoni, Rattner and Permuter (2017), "GL-LWGC-AWD-MoS-LSTM", and Table 3,
"w/o fine-tuning". All phases but the last one are finetuned.

    python -m glrnn.train experiments/ptb_gl_lwgc.py --data DIR

The paper's perplexities, valid and test: 54.57 and 52.95. A run of `ptb.py` passes
through this one:

    python -m glrnn.evaluate runs/ptb --phase 3 --stage main
"""

from ptb import config as best

from glrnn.config.variants import without_finetuning

config = without_finetuning(best)
