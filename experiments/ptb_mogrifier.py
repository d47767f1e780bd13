"""Gradual learning of mogrifiers with a mixture of softmaxes: 23,972,264 parameters.

A candidate for the best result with 24M parameters: the paper's method, layer-wise
clipping and mixture, with the strongest LSTM cell (Melis, Kočiský and Blunsom 2020).
All other settings are those of `ptb.py`; they have been neither tuned nor run at this
size.

    python -m glrnn.train experiments/ptb_mogrifier.py --data DIR
    python -m glrnn.evaluate runs/ptb_mogrifier --tune

The best published test perplexities with 24M parameters are 47.9, and 42.9 with dynamic
evaluation (Melis 2022).
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Layer

config = replace(
    best, layers=(Layer("mogrifier", hidden_size=856, depth=5, rank=84),) * 3
)
