"""Gradual learning of recurrent highway networks: 26,391,004 parameters.

The cell is that of Zilly et al. (2017). The paper's last section asks whether the
method carries over to other networks. All is as in `ptb.py`, layer-wise clipping
included, but for the cell and the width that gives as many parameters. Three micro-
steps a layer, so that three layers are about as deep as the single layer of ten that
was published. Nothing is published to compare it with.

    python -m glrnn.train experiments/ptb_gl_rhn.py --data DIR
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Layer

config = replace(best, layers=(Layer("rhn", hidden_size=932, depth=3),) * 3)
