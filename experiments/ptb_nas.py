"""The cell that architecture search found, on Penn Treebank: 24,990,592 parameters.

Zoph and Le (2017), "Neural architecture search with reinforcement learning", two layers
with a shared embedding; in Table 1 of Aharoni, Rattner and Permuter (2017). How it was
trained was not published. These are the settings that Melis, Kočiský and Blunsom (2020)
found for two layers of LSTM of this size, in the protocol in which Melis, Dyer and
Blunsom (2018) trained NAS cells themselves.

    python -m glrnn.train experiments/ptb_nas.py --data DIR

The published test perplexity: 64.0. One layer of 24M parameters reached 62.1 and 59.7,
valid and test, when Melis et al. trained it. 1,000 epochs of 200 updates, so for a GPU
or TPU.
"""

from dataclasses import replace

from ptb_mogrifier_lstm import config as mogrifier

from glrnn.config import Dropout, Layer

_phase = mogrifier.phases[0]

config = replace(
    mogrifier,
    embedding_size=741,
    layers=(Layer("nas", hidden_size=741),) * 2,
    phases=(
        replace(
            _phase,
            dropout=Dropout(
                input=0.62756,
                hidden=(0.30699,),
                output=0.69017,
                state=0.36922,
                carry=0.01,
            ),
            main=replace(_phase.main, learning_rate=0.00303691),
        ),
    ),
    l2_penalty=2.49081e-4,
)
