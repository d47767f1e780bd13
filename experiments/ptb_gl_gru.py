"""Gradual learning of gated recurrent units: 26,392,448 parameters.

The cell is that of Cho et al. (2014). The paper's last section asks whether the method
carries over to other networks. All is as in `ptb.py`, layer-wise clipping included, but
for the cell and the width that gives as many parameters. Nothing is published to
compare it with.

    python -m glrnn.train experiments/ptb_gl_gru.py --data DIR
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Layer

config = replace(best, layers=(Layer("gru", hidden_size=1096),) * 3)
