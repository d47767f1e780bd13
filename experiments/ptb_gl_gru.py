"""Gradual learning of gated recurrent units: 26,392,448 parameters.

The cell is that of Cho et al. (2014). The paper's last section asks whether the method
carries over to other networks. The settings are those of `ptb.py`, layer-wise clipping
included, except for the cell and the width, which gives the same number of parameters.
There are no published results to compare with.

    python -m glrnn.train experiments/ptb_gl_gru.py --data DIR
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Layer

config = replace(best, layers=(Layer("gru", hidden_size=1096),) * 3)
