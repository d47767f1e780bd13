"""Gradual learning of an LSTM with a capped input gate: 26,379,320 parameters.

The cell is that of Melis, Dyer and Blunsom (2018). The paper's last section asks
whether the method carries over to other networks. The settings are those of `ptb.py`,
layer-wise clipping included, except for the cell and the width, which gives the same
number of parameters. There are no published results to compare with.

    python -m glrnn.train experiments/ptb_gl_capped.py --data DIR
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Layer

config = replace(best, layers=(Layer("capped", hidden_size=960),) * 3)
