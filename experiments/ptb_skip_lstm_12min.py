"""Skip-connection LSTM on Penn Treebank in twelve minutes of two CPU cores.

    python -m glrnn.train experiments/ptb_skip_lstm_12min.py --data DIR

`ptb_skip_lstm.py` has the full size; README.md says what this one reached.
"""

from ptb_skip_lstm import config as full_size
from twelve_minutes import twelve_minutes

config = twelve_minutes(full_size)
