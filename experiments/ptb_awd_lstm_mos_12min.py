"""AWD-LSTM-MoS on Penn Treebank in twelve minutes of two CPU cores.

    python -m glrnn.train experiments/ptb_awd_lstm_mos_12min.py --data DIR

`ptb_awd_lstm_mos.py` has the full size; README.md says what this one reached.
"""

from ptb_awd_lstm_mos import config as full_size
from twelve_minutes import twelve_minutes

config = twelve_minutes(full_size)
