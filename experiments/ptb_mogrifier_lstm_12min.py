"""Mogrifier LSTM on Penn Treebank in twelve minutes of two CPU cores.

    python -m glrnn.train experiments/ptb_mogrifier_lstm_12min.py --data DIR

`ptb_mogrifier_lstm.py` has the full size; README.md says what this one reached.
"""

from ptb_mogrifier_lstm import config as full_size
from twelve_minutes import twelve_minutes

config = twelve_minutes(full_size)
