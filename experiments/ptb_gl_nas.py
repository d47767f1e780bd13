"""Gradual learning of the cell that architecture search found: 26,373,845 parameters.

The cell is that of Zoph and Le (2017). The paper's last section asks whether the method
carries over to other networks. The settings are those of `ptb.py`, layer-wise clipping
included, except for the cell and the width, which gives the same number of parameters.
There are no published results to compare with.

    python -m glrnn.train experiments/ptb_gl_nas.py --data DIR
"""

from dataclasses import replace

from ptb import config as best

from glrnn.config import Layer

config = replace(best, layers=(Layer("nas", hidden_size=691),) * 3)
