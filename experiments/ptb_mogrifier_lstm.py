"""Mogrifier LSTM on Penn Treebank: two layers, 23,986,480 parameters.

Melis, Kočiský and Blunsom (2020), "Mogrifier LSTM", with the tuned settings that their
code came with. It is not in the paper's tables, but is the strongest such network with
a public recipe.

    python -m glrnn.train experiments/ptb_mogrifier_lstm.py --data DIR

The published perplexities, valid and test: 51.4 and 50.1, with dynamic evaluation 44.9
and 44.8, at a softmax temperature chosen on the validation set:

    python -m glrnn.evaluate runs/ptb_mogrifier_lstm --tune-temperature
    python -m glrnn.evaluate runs/ptb_mogrifier_lstm --tune-temperature --tune

As far as we remember the paper, these average over dropout masks, which is not done
here; without it they are 52.1 and 51.0, and 45.1 and 45.0 with dynamic evaluation.
1,000 epochs of 200 updates, so for a GPU or TPU. `ptb_skip_lstm.py` lists the other
differences.
"""

from dataclasses import replace

from ptb_skip_lstm import config as skip_lstm

from glrnn.config import Averaging, Dropout, Layer, Phase, Stage

config = replace(
    skip_lstm,
    embedding_size=912,
    layers=(Layer("mogrifier", hidden_size=912, depth=5, rank=84),) * 2,
    phases=(
        Phase(
            num_layers=2,
            dropout=Dropout(
                input=0.729079,
                hidden=(0.290982,),
                output=0.715669,
                state=0.387294,
                carry=0.01,
            ),
            main=Stage(epochs=1000, learning_rate=0.002299987, max_norms=(10.0,)),
        ),
    ),
    window_length=70,
    updates_per_epoch=200,
    l2_penalty=2.523534e-4,
    # Averaging begins after 50 turns without gain, at the latest after 800.
    averaging=Averaging("plateau", window=50, latest=800),
)
