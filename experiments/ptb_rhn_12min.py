"""Recurrent highway network on Penn Treebank in twelve minutes of two CPU cores.

    python -m glrnn.train experiments/ptb_rhn_12min.py --data DIR

`ptb_rhn.py` has the full size; README.md says what this one reached.
"""

from ptb_rhn import config as full_size
from twelve_minutes import twelve_minutes

config = twelve_minutes(full_size)
