"""The paper's model of WikiText-2 before it is finetuned: 38,097,128 parameters.

Table 2 of Aharoni, Rattner and Permuter (2017), "GL-LWGC-AWD-MoS-LSTM". The phases
before the last one are finetuned. The table says 35M parameters, which is the size of
another model; the widths that the paper gives make 38M.

    python -m glrnn.train experiments/wikitext2_gl_lwgc.py --data DIR

The paper's perplexities, valid and test: 63.59 and 61.27. A run of `wikitext2.py`
passes through this one:

    python -m glrnn.evaluate runs/wikitext2 --phase 3 --stage main
"""

from wikitext2 import config as best

from glrnn.config.variants import without_finetuning

config = without_finetuning(best)
