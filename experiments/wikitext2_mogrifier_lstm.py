"""Mogrifier LSTM on WikiText-2: two layers, two softmaxes, 34,991,552 parameters.

Melis, Kočiský and Blunsom (2020), "Mogrifier LSTM", with the tuned settings that their
code came with.

    python -m glrnn.train experiments/wikitext2_mogrifier_lstm.py --data DIR

The published perplexities, valid and test: 57.3 and 55.1, with dynamic evaluation 40.2
and 38.6, at a softmax temperature chosen on the validation set:

    python -m glrnn.evaluate runs/wikitext2_mogrifier_lstm --tune-temperature
    python -m glrnn.evaluate runs/wikitext2_mogrifier_lstm --tune-temperature --tune

As far as we remember the paper, these average over dropout masks, which is not done
here; without it they are 58.7 and 56.6, and 40.6 and 39.0 with dynamic evaluation.
1,000 epochs of 200 updates, so for a GPU or TPU. Their mixture is initialised from a
normal distribution, ours like that of Yang et al. (2018); `ptb_skip_lstm.py` lists the
other differences.
"""

from dataclasses import replace

from ptb_mogrifier_lstm import config as penn_treebank

from glrnn.config import Dropout, Layer

_phase = penn_treebank.phases[0]

config = replace(
    penn_treebank,
    embedding_size=272,
    layers=(Layer("mogrifier", hidden_size=1366, depth=6, rank=48),) * 2,
    head="mixture",
    num_softmaxes=2,
    phases=(
        replace(
            _phase,
            dropout=Dropout(
                input=0.546909,
                hidden=(0.198823,),
                output=0.347667,
                latent=0.347667,
                state=0.221380,
                carry=0.01,
            ),
            main=replace(_phase.main, learning_rate=0.003287792),
        ),
    ),
    l2_penalty=1.899499e-4,
    valid_batch_size=37,
)
