"""Gradual learning of mogrifiers with a mixture of softmaxes: 23,972,264 parameters.

Our own candidate for the record of networks of 24M parameters: the paper's method, its
clipping and its mixture, with the strongest cell of the family (Melis, Kočiský and
Blunsom 2020). All else is as in `ptb.py`. Not tuned: nobody has run it at this size.

    python -m glrnn.train experiments/ptb_mogrifier.py --data DIR
    python -m glrnn.evaluate runs/ptb_mogrifier --tune

To beat, test perplexity at 24M: 47.9, and 42.9 with dynamic evaluation (Melis 2022).
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Layer

config = replace(
    best, layers=(Layer("mogrifier", hidden_size=856, depth=5, rank=84),) * 3
)
