"""The paper's model of Penn Treebank with two layers: 19,010,360 parameters.

Table 1 of Aharoni, Rattner and Permuter (2017), "2-layers GL-LWGC-AWD-MoS-LSTM +
finetune".

    python -m glrnn.train experiments/ptb_two_layers.py --data DIR

The paper's perplexities, valid and test: 55.18 and 53.54. A run of `ptb.py` passes
through this one:

    python -m glrnn.evaluate runs/ptb --phase 2
"""

from ptb import config as best

from glrnn.config.variants import two_layers

config = two_layers(best)
