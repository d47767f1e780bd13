"""NAS cells on Penn Treebank in twelve minutes of two CPU cores.

    python -m glrnn.train experiments/ptb_nas_12min.py --data DIR

`ptb_nas.py` has the full size; README.md says what this one reached.
"""

from ptb_nas import config as full_size
from twelve_minutes import twelve_minutes

config = twelve_minutes(full_size)
