"""Gradual learning of recurrent highway networks: 26,391,004 parameters.

The cell is that of Zilly et al. (2017). The paper's last section asks whether the
method carries over to other networks. The settings are those of `ptb.py`, layer-wise
clipping included, except for the cell and the width, which gives the same number of
parameters. Each layer has three micro-steps, so that three layers are about as deep as
the published single layer of ten. There are no published results to compare with.

    python -m glrnn.train experiments/ptb_gl_rhn.py --data DIR
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Layer

config = replace(best, layers=(Layer("rhn", hidden_size=932, depth=3),) * 3)
